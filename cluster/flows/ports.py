"""What flows call outside SQL: the scheduler and the backends. Actors implement these over Ray, tests in memory.

A call that fails raises `StorageError`s of `drivers.vocabulary` (their family decides what the journal does) or
`NoPlacementError`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from cluster.scheduling.request import PlacementRequest
from drivers.vocabulary import (
    ConnectionInfo,
    ConnectionItem,
    ConnectionSpec,
    InventoryItem,
    Observed,
    SnapshotSpec,
    VolumeSpec,
)


class SchedulerPort(Protocol):
    """The one place that decides where."""

    async def place(self, request: PlacementRequest) -> str:
        """Choose a pool, reserve the room in memory, return `host@backend#pool`. A repeat for the same volume gives
        the same answer. Raises NoPlacementError (final), RetryableError while pools are still unknown."""
        ...

    async def release(self, volume_id: str) -> None:
        """Give the reservation of the volume back. A loss of this call is healed by the scheduler's recount."""
        ...

    async def resize(self, volume_id: str, size_gib: int) -> None:
        """The volume's reservation is `size_gib` GiB again (an extend that failed). May be lost, as `release`."""
        ...


class BackendPort(Protocol):
    """One pool, reached through the actor of its host."""

    async def ensure_volume(self, spec: VolumeSpec) -> Observed: ...

    async def ensure_volume_from_snapshot(self, spec: VolumeSpec, source: SnapshotSpec) -> Observed: ...

    async def ensure_volume_from_volume(self, spec: VolumeSpec, source: VolumeSpec) -> Observed: ...

    async def ensure_volume_absent(self, volume_id: str) -> None: ...

    async def ensure_size(self, volume_id: str, size_gib: int) -> Observed: ...

    async def ensure_snapshot(self, spec: SnapshotSpec) -> Observed: ...

    async def ensure_snapshot_absent(self, spec: SnapshotSpec) -> None: ...

    async def ensure_connection(self, spec: ConnectionSpec) -> ConnectionInfo: ...

    async def ensure_connection_absent(self, connection_id: str, volume_id: str) -> None: ...


class ComputePort(Protocol):
    """The cloud's compute service, whose servers use volumes."""

    async def volume_extended(self, volume_id: str, server_ids: Sequence[str], request_id: str) -> bool:
        """Whether it knows now that the volume, which these of its servers use, has grown. It may be told twice."""
        ...


class NoCompute:
    """No compute service: there is nobody to tell."""

    async def volume_extended(self, volume_id: str, server_ids: Sequence[str], request_id: str) -> bool:  # noqa: ARG002
        """True."""
        return True


class Ports(Protocol):
    """Everything a flow may call. `backend` names the pool (`host@backend#pool`), and the operation for which it is
    called: `epoch` lets the host refuse a conductor that was replaced, `request_id` goes into its log lines."""

    @property
    def scheduler(self) -> SchedulerPort: ...

    @property
    def compute(self) -> ComputePort: ...

    async def inventory(self, service: str, *, epoch: int) -> list[InventoryItem]:
        """Every whole object that the backend `host@backend` holds."""
        ...

    async def connections(self, service: str, *, epoch: int) -> list[ConnectionItem]:
        """Every connection that the exports of the backend `host@backend` serve."""
        ...

    def backend(self, host: str, *, epoch: int, request_id: str, resource_id: str) -> BackendPort: ...
