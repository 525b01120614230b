"""The words that `cluster/` and `drivers/` share: specs, observations, reports, capabilities, errors.

The only module of this package that code outside the drivers and the actors may import. It must know nothing of Ray,
SQL or HTTP.

The error tree. Its three families decide what the journal does next:

    StorageError
    ├── FinalError            undo the finished steps, tell the user; repeating cannot help
    │   ├── NoSpaceError          the pool is full
    │   ├── SizeConflictError     the object exists with another size
    │   ├── SourceMissingError    the snapshot or volume to copy from is not on this backend
    │   ├── InUseError            something else still depends on the object
    │   ├── UnsupportedError      this backend cannot do that
    │   └── BadNameError          an id that is not a UUID; refused before it becomes a path
    ├── RetryableError        nothing was done; try again later (back-off)
    │   ├── BackendUnavailableError   the pool is not there now (not mounted, held by another process)
    │   └── StaleEpochError           whoever calls was replaced by a caller of a later epoch
    └── UncertainError        it may or may not have happened: only the same call on the same host may run again

What a message says can reach a tenant, who learns ids, sizes, pools and epochs of it, and nothing of the host: no path,
process or text of another program. Only a BackendUnavailableError may name these: it is for operators, and whoever
shows errors to tenants must put words of its own in its place.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

GIB: Final = 1 << 30

_UUID: Final = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")


class StorageError(Exception):
    """The backend could not do what was asked."""

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message or (type(self).__doc__ or "").strip())


class FinalError(StorageError):
    """The backend refused, and repeating the call cannot help."""


class NoSpaceError(FinalError):
    """The pool has no room left for this; free space or choose another pool."""


class SizeConflictError(FinalError):
    """An object of this id exists with another size."""


class SourceMissingError(FinalError):
    """The source to copy from is not on this backend."""


class InUseError(FinalError):
    """Something still depends on this object; delete that first."""


class UnsupportedError(FinalError):
    """This backend cannot do that."""


class BadNameError(FinalError):
    """The id is not a UUID."""


class RetryableError(StorageError):
    """The backend could not act now, and nothing was done."""


class BackendUnavailableError(RetryableError):
    """The backend's storage is not there now."""


class StaleEpochError(RetryableError):
    """The caller was replaced by one of a later epoch."""


class UncertainError(StorageError):
    """It is not known whether the call took effect."""


def checked_id(value: str) -> str:
    """Return `value` when it is a lower-case UUID; raise BadNameError otherwise. Call before an id becomes a path."""
    if not _UUID.fullmatch(value):
        raise BadNameError(f"{value!r} is not a UUID; it cannot name a storage object")
    return value


@dataclass(frozen=True, slots=True)
class VolumeSpec:
    """A volume as it is wanted. `size_gib` is the logical size in GiB (at least 1)."""

    id: str
    size_gib: int


@dataclass(frozen=True, slots=True)
class SnapshotSpec:
    """A snapshot as it is wanted: the content of `volume_id` (whose size is `size_gib` GiB) at the time of the call."""

    id: str
    volume_id: str
    size_gib: int


@dataclass(frozen=True, slots=True)
class Observed:
    """What a backend found after an `ensure_*` call.

    `size_bytes` is the logical size, `allocated_bytes` what the object occupies in the pool as far as the backend can
    tell (shared extents count for each), `created` whether this very call made it, `location` the backend's own name
    for it (a path for file backends; for operators and exports, never for clients).
    """

    id: str
    size_bytes: int
    allocated_bytes: int
    created: bool
    location: str


class ObjectKind(StrEnum):
    """What an inventory entry is."""

    VOLUME = "volume"
    SNAPSHOT = "snapshot"


@dataclass(frozen=True, slots=True)
class InventoryItem:
    """One object found on a backend. `parent_id` is the snapshot's volume where the backend records it."""

    kind: ObjectKind
    id: str
    pool: str
    size_bytes: int
    location: str
    parent_id: str | None = None


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a backend can do, as data. `shares_extents`: snapshots and clones cost no copy. `thin`: unwritten blocks
    take no room. `protocols`: all ways by which consumers reach its volumes, when there are more than
    `storage_protocol`."""

    storage_protocol: str
    vendor_name: str
    driver_version: str
    thin: bool
    shares_extents: bool
    online_extend: bool = True
    multiattach: bool = False
    protocols: tuple[str, ...] = ()
    extra: dict[str, str | int | float | bool] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class PoolReport:
    """One pool's state as its backend measured it. Capacities are GiB (fractions allowed)."""

    name: str
    total_gib: float
    free_gib: float
    capabilities: Capabilities
    reserved_percentage: int = 0
    max_over_subscription_ratio: float = 20.0
    filter_function: str | None = None
    goodness_function: str | None = None


class AccessMode(StrEnum):
    """What a consumer may do with a volume."""

    READ_WRITE = "rw"
    READ_ONLY = "ro"


@dataclass(frozen=True, slots=True)
class Limits:
    """What a consumer may draw from a volume each second; None is unlimited. Operations are requests of any size,
    bytes are bytes; `total_*` counts reads and writes together (and then the other two of its kind are None)."""

    total_iops: int | None = None
    read_iops: int | None = None
    write_iops: int | None = None
    total_bytes: int | None = None
    read_bytes: int | None = None
    write_bytes: int | None = None


UNLIMITED: Final = Limits()


@dataclass(frozen=True, slots=True)
class ConnectionSpec:
    """One consumer that is to reach a volume through an export.

    `id` names the connection (a UUID), `connector` is what os-brick tells of the consumer's host (`host`, `ip`,
    `initiator`, `multipath`, …), `secret` (32 bytes as hexadecimal) is what passwords and keys are made of, `protocol`
    picks the export by name (None: the first of the host's exports that can serve this connector).
    """

    id: str
    volume_id: str
    size_gib: int
    mode: AccessMode
    connector: Mapping[str, Any]
    secret: str = field(repr=False)
    protocol: str | None = None
    limits: Limits = UNLIMITED


@dataclass(frozen=True, slots=True)
class ConnectionInfo:
    """How a consumer reaches a volume, as os-brick is told: `driver_volume_type` picks its connector class, `data` is
    that connector's. It may hold a password."""

    driver_volume_type: str
    data: Mapping[str, Any] = field(repr=False)


@dataclass(frozen=True, slots=True)
class Portal:
    """Where consumers come to over TCP: an IP address of the node (unspecified: every one of its addresses), a port."""

    address: str
    port: int


@dataclass(frozen=True, slots=True)
class ConnectionItem:
    """One connection found on an export."""

    id: str
    volume_id: str
