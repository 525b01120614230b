"""The client, volumes and snapshots for programs without an event loop: each call waits for its asynchronous twin.

In a program with an event loop use `aconnect`; these would hold it up.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, Self

from actors.handles.asynchronous import READY_SECONDS, AsyncClient, AsyncSnapshot, AsyncVolume, Mode
from actors.handles.portal import PORTAL


class Client:
    """See AsyncClient."""

    def __init__(self, twin: AsyncClient) -> None:
        self._twin = twin

    def __reduce__(self) -> tuple[Any, ...]:
        return Client, (self._twin,)

    def create_volume(
        self,
        size_gib: int | None = None,
        *,
        name: str | None = None,
        description: str | None = None,
        volume_type: str | None = None,
        availability_zone: str | None = None,
        metadata: Mapping[str, str] | None = None,
        snapshot: Snapshot | str | None = None,
        source: Volume | str | None = None,
        hints: Mapping[str, Any] | None = None,
    ) -> Volume:
        """See AsyncClient.create_volume."""
        work = self._twin.create_volume(
            size_gib,
            name=name,
            description=description,
            volume_type=volume_type,
            availability_zone=availability_zone,
            metadata=metadata,
            snapshot=snapshot.twin if isinstance(snapshot, Snapshot) else snapshot,
            source=source.twin if isinstance(source, Volume) else source,
            hints=hints,
        )
        return Volume(PORTAL.run(work))

    def volume(self, volume: str) -> Volume:
        """See AsyncClient.volume."""
        return Volume(PORTAL.run(self._twin.volume(volume)))

    def volumes(self, **filters: str) -> list[Volume]:
        """See AsyncClient.volumes."""
        return [Volume(twin) for twin in PORTAL.run(self._twin.volumes(**filters))]

    def snapshot(self, snapshot: str) -> Snapshot:
        """See AsyncClient.snapshot."""
        return Snapshot(PORTAL.run(self._twin.snapshot(snapshot)))

    def snapshots(self, **filters: str) -> list[Snapshot]:
        """See AsyncClient.snapshots."""
        return [Snapshot(twin) for twin in PORTAL.run(self._twin.snapshots(**filters))]


class _Blocking:
    """What volumes and snapshots share."""

    twin: AsyncVolume | AsyncSnapshot

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.id} {self.name!r} {self.size_gib} GiB {self.status}>"

    @property
    def id(self) -> str:
        """Its UUID."""
        return self.twin.id

    @property
    def name(self) -> str | None:
        """Its name."""
        return self.twin.name

    @property
    def status(self) -> str:
        """Its status as last seen."""
        return self.twin.status

    @property
    def size_gib(self) -> int:
        """Its size in GiB as last seen."""
        return self.twin.size_gib

    def refresh(self) -> Self:
        """Look at it again. Raises MissingError."""
        PORTAL.run(self.twin.refresh())
        return self

    def ready(self, timeout: float = READY_SECONDS) -> Self:
        """Wait until nothing is under way. Raises FailedError with the reason, NotInTimeError, MissingError."""
        PORTAL.run(self.twin.ready(timeout))
        return self

    def delete(self, *, wait: bool = True, timeout: float = READY_SECONDS) -> None:
        """Delete it. Raises RefusedError (in use), FailedError, NotInTimeError."""
        PORTAL.run(self.twin.delete(wait=wait, timeout=timeout))


class Volume(_Blocking):
    """See AsyncVolume."""

    def __init__(self, twin: AsyncVolume) -> None:
        self.twin: AsyncVolume = twin

    def __reduce__(self) -> tuple[Any, ...]:
        return Volume, (self.twin,)

    @property
    def host(self) -> str | None:
        """The Pumice host on which its bytes are."""
        return self.twin.host

    def locality(self) -> dict[str, Any]:
        """See AsyncVolume.locality."""
        return self.twin.locality()

    def snapshot(self, name: str | None = None, *, description: str | None = None) -> Snapshot:
        """See AsyncVolume.snapshot."""
        return Snapshot(PORTAL.run(self.twin.snapshot(name, description=description)))

    def clone(self, name: str | None = None, *, size_gib: int | None = None) -> Volume:
        """See AsyncVolume.clone."""
        return Volume(PORTAL.run(self.twin.clone(name, size_gib=size_gib)))

    def extend(self, size_gib: int, timeout: float = READY_SECONDS) -> Self:
        """See AsyncVolume.extend."""
        PORTAL.run(self.twin.extend(size_gib, timeout))
        return self

    def set_metadata(self, **values: str) -> None:
        """See AsyncVolume.set_metadata."""
        PORTAL.run(self.twin.set_metadata(**values))

    @contextmanager
    def mounted(self, mode: Mode = "rw", *, filesystem: str = "ext4") -> Iterator[Path]:
        """See AsyncVolume.mounted."""
        from actors.handles.mounting import mount, unmount

        claim = PORTAL.run(mount(self.twin.session, self.id, mode, filesystem))
        try:
            yield claim.path
        finally:
            PORTAL.run(unmount(claim))

    def fan_out(
        self, n: int, *, per: Literal["node", "cluster"] = "cluster", keep_snapshot: bool = False
    ) -> list[Volume]:
        """See AsyncVolume.fan_out."""
        return [Volume(twin) for twin in PORTAL.run(self.twin.fan_out(n, per=per, keep_snapshot=keep_snapshot))]


class Snapshot(_Blocking):
    """See AsyncSnapshot."""

    def __init__(self, twin: AsyncSnapshot) -> None:
        self.twin: AsyncSnapshot = twin

    def __reduce__(self) -> tuple[Any, ...]:
        return Snapshot, (self.twin,)

    @property
    def volume_id(self) -> str:
        """The volume it is of."""
        return self.twin.volume_id

    def clone(self, name: str | None = None, *, size_gib: int | None = None) -> Volume:
        """See AsyncSnapshot.clone."""
        return Volume(PORTAL.run(self.twin.clone(name, size_gib=size_gib)))
