"""What a backend driver is: one small protocol and optional ones found by `isinstance`.

Every call is a coroutine, is named by resource id, and may be repeated: create twice gives one, delete of nothing
succeeds. A call returns only when its effect is durable (data, size and directory entry would survive a power cut).
A call that is cancelled or dies half-way leaves nothing that a repeat of the same call cannot finish, and nothing
that `inventory` shows as a whole object.

Errors are those of `drivers.vocabulary`; a driver lets no other exception out on purpose. `capabilities` must answer
before `open` too: `isinstance` asks for it.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from drivers.vocabulary import (
    Capabilities,
    ConnectionInfo,
    ConnectionItem,
    ConnectionSpec,
    InventoryItem,
    Limits,
    Observed,
    PoolReport,
    Portal,
    SnapshotSpec,
    VolumeSpec,
)


@runtime_checkable
class Backend(Protocol):
    """A place for volumes. One instance runs per host and backend; pools are its parts."""

    @property
    def capabilities(self) -> Capabilities:
        """What this backend can do; fixed after `open`."""
        ...

    async def open(self) -> None:
        """Take hold of the storage (make or check directories, take the pool's lock). Raises
        BackendUnavailableError when another process holds it or it is not there."""
        ...

    async def close(self) -> None:
        """Let go of the storage. Safe to repeat."""
        ...

    async def pools(self) -> list[PoolReport]:
        """Measure the pools now."""
        ...

    async def ensure_volume(self, pool: str, spec: VolumeSpec) -> Observed:
        """An empty volume that reads as zeroes. Raises SizeConflictError, NoSpaceError."""
        ...

    async def ensure_volume_absent(self, pool: str, volume_id: str) -> None:
        """No such volume, its half-made leftovers included. Deleting nothing succeeds."""
        ...

    async def ensure_size(self, pool: str, volume_id: str, size_gib: int) -> Observed:
        """The volume is `size_gib` GiB; the new part reads as zeroes. Growing to the present size succeeds; asking for
        less raises SizeConflictError. Raises SourceMissingError when there is no such volume, NoSpaceError."""
        ...

    async def inventory(self) -> list[InventoryItem]:
        """Every whole volume and snapshot found, of all pools."""
        ...


@runtime_checkable
class Snapshots(Protocol):
    """Point-in-time copies that never change. A snapshot outlives the deletion of nothing: its volume may not be
    deleted before it (the API sees to that), yet backends whose snapshots stand alone need not refuse."""

    async def ensure_snapshot(self, pool: str, spec: SnapshotSpec) -> Observed:
        """A snapshot of the volume's content now; a repeat returns the one that exists, unchanged.
        Raises SourceMissingError, NoSpaceError."""
        ...

    async def ensure_snapshot_absent(self, pool: str, spec: SnapshotSpec) -> None:
        """No such snapshot, its half-made leftovers included. Deleting nothing succeeds."""
        ...

    async def ensure_volume_from_snapshot(self, pool: str, spec: VolumeSpec, source: SnapshotSpec) -> Observed:
        """A writable volume with the snapshot's content, zeroes beyond it when `spec` is larger.
        Raises SourceMissingError, SizeConflictError (also when `spec` is smaller), NoSpaceError."""
        ...


@runtime_checkable
class Clones(Protocol):
    """Writable copies of volumes."""

    async def ensure_volume_from_volume(self, pool: str, spec: VolumeSpec, source: VolumeSpec) -> Observed:
        """A writable volume with the source's content now, zeroes beyond it when `spec` is larger.
        Raises SourceMissingError, SizeConflictError (also when `spec` is smaller), NoSpaceError."""
        ...


@runtime_checkable
class Holds(Protocol):
    """The driver can prove that no other process has the storage open."""

    @property
    def place(self) -> str | None:
        """What this process alone holds now, by a name which no other process can have at the same time (a kernel and
        a locked file of it); None while it holds nothing, and before `open`. At most 120 characters without a slash.
        Who shows a place has proof that whoever showed it earlier has let go of it or is dead."""
        ...


@runtime_checkable
class Fences(Protocol):
    """The storage itself remembers the latest epoch of those who command it."""

    async def admit(self, epoch: int) -> None:
        """Let commands of `epoch` through from now on, and none of an earlier one, also after a restart: the mark is
        durable when this returns. Raises StaleEpochError when a later epoch was admitted before."""
        ...


@runtime_checkable
class Files(Protocol):
    """Volumes are files or block devices of the host, whose bytes are the volume's: any export can offer them."""

    async def volume_path(self, pool: str, volume_id: str) -> Path:
        """Where the volume's bytes are. Raises SourceMissingError when there is no such volume."""
        ...


@runtime_checkable
class Export(Protocol):
    """A way by which consumers reach volumes of this host, whatever backend holds them. One instance runs per volume
    actor. Its calls obey the same rules as a backend's: named by id, repeatable, and nothing is left by half."""

    @property
    def protocol(self) -> str:
        """Its name among exports and in a pool's `storage_protocol`, as `nbd`."""
        ...

    async def open(self) -> None:
        """Make ready (find or start what serves). Connections that an earlier life made and that still serve are kept.
        Raises BackendUnavailableError."""
        ...

    async def close(self) -> None:
        """Let go; what serves goes on serving. Safe to repeat."""
        ...

    def serves(self, connector: Mapping[str, Any]) -> bool:
        """Whether a consumer with this connector could connect."""
        ...

    def cannot_keep(self, limits: Limits) -> str:
        """Why it cannot hold a consumer to these limits, as a clause for a sentence that says what to do; "" when it
        can. What `Portals.by_network` names counts as kept here. A look, not a promise: `ensure_connection` raises
        UnsupportedError for limits that it cannot keep."""
        ...

    async def ensure_connection(self, spec: ConnectionSpec, path: Path) -> ConnectionInfo:
        """The consumer of `spec`, and nobody else by its means, reaches the bytes at `path`. A repeat gives the same
        answer. Raises UnsupportedError, InUseError (another holds the consumer's name), BackendUnavailableError."""
        ...

    async def ensure_connection_absent(self, connection_id: str, volume_id: str) -> None:
        """The consumer does not reach the volume any more, open sessions included. Removing nothing succeeds."""
        ...

    async def connections(self) -> list[ConnectionItem]:
        """Every connection that is being served."""
        ...

    async def resized(self, volume_id: str, path: Path) -> None:
        """The volume grew: its consumers see the new size, at the latest when they look again."""
        ...


@runtime_checkable
class Ends(Protocol):
    """An export that runs something also while it serves nobody."""

    async def end(self) -> None:
        """Nothing of it runs any more; called when it serves nobody. Safe to repeat. Raises
        BackendUnavailableError."""
        ...


@runtime_checkable
class Portals(Protocol):
    """An export by which consumers may come over TCP."""

    async def portal(self, connection_id: str) -> Portal | None:
        """Where the consumer of a connection that is served comes to; None when it comes by another way than TCP."""
        ...

    def by_network(self, limits: Limits) -> Limits:
        """What of these limits the node's network is to keep for the export, by what leaves from its portal."""
        ...
