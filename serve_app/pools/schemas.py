"""The shapes of pools and capabilities."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel


class PoolItem(BaseModel):
    """A pool; with `detail` also what its backend reports of it."""

    name: str
    capabilities: dict[str, Any] | None = None


class PoolsReply(BaseModel):
    """Pools."""

    pools: list[PoolItem]


class CapabilitiesReply(BaseModel):
    """What a backend can do."""

    namespace: str
    vendor_name: str | None
    volume_backend_name: str | None
    pool_name: str | None
    driver_version: str | None
    storage_protocol: str | None
    display_name: str | None
    description: str | None
    visibility: str | None
    replication_targets: list[Any]
    properties: dict[str, Any]
