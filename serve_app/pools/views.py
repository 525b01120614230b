"""Pools and capabilities as the wire shows them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cluster.services.queries import VOLUME_BINARY, PoolView

# Properties that say what every backend can be asked: capability -> (title, what it means).
_PROPERTIES = {
    "thin_provisioning": ("Thin Provisioning", "Sets thin provisioning."),
    "compression": ("Compression", "Enables compression."),
    "qos": ("QoS", "Enables QoS."),
    "replication_enabled": ("Replication", "Enables replication."),
}


def _protocol(stats: Mapping[str, Any]) -> Any:
    protocol = stats.get("storage_protocol")
    return protocol[0] if isinstance(protocol, list) and protocol else protocol


def pool(view: PoolView, *, detail: bool) -> dict[str, Any]:
    """One pool. Where a backend lists the spellings of its protocol, the first is shown."""
    if not detail:
        return {"name": view.name}
    stats = dict(view.stats)
    if "storage_protocol" in stats:
        stats["storage_protocol"] = _protocol(stats)
    return {"name": view.name, "capabilities": stats}


def capabilities(service_host: str, stats: Mapping[str, Any]) -> dict[str, Any]:
    """What the backend of a volume service can do, from what one of its pools reports."""
    shown = {key: stats.get(key) for key in ("vendor_name", "volume_backend_name", "pool_name", "driver_version")}
    return {
        "namespace": f"OS::Storage::Capabilities::{VOLUME_BINARY}.{service_host}",
        **shown,
        "storage_protocol": _protocol(stats),
        "display_name": stats.get("display_name"),
        "description": stats.get("description"),
        "visibility": "public",
        "replication_targets": [],
        "properties": {
            key: {"title": title, "description": text, "type": "boolean"} for key, (title, text) in _PROPERTIES.items()
        },
    }
