"""The comparison itself, pure: rows on one side, inventory on the other. Knows no SQL and no actor.

`attaching` and `detaching` are no transitional states: they are its consumer's, who may take any time.

A resource is *settled* when its state is not transitional and no operation on it is live. Only what was settled, with
the same row, both before and after the inventory was taken is judged; the rest is somebody's work under way.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from cluster.snapshots.records import SnapshotStatus
from cluster.volumes.records import VolumeStatus
from drivers.vocabulary import InventoryItem, ObjectKind

TRANSITIONAL: Mapping[ObjectKind, frozenset[str]] = {
    ObjectKind.VOLUME: frozenset(
        {
            VolumeStatus.CREATING, VolumeStatus.DELETING, VolumeStatus.EXTENDING, VolumeStatus.RETYPING,
            VolumeStatus.DOWNLOADING, VolumeStatus.UPLOADING, VolumeStatus.REVERTING, VolumeStatus.MANAGING,
            VolumeStatus.UNMANAGING, VolumeStatus.BACKING_UP, VolumeStatus.RESTORING_BACKUP,
            VolumeStatus.ERROR_MANAGING_DELETING,
        }
    ),
    ObjectKind.SNAPSHOT: frozenset(
        {
            SnapshotStatus.CREATING, SnapshotStatus.DELETING, SnapshotStatus.BACKING_UP, SnapshotStatus.UPDATING,
            SnapshotStatus.UNMANAGING, SnapshotStatus.RESTORING,
        }
    ),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Known:
    """A resource as the records have it. `busy`: an operation on it is live. `host` is `host@backend#pool`."""

    kind: ObjectKind
    id: str
    host: str
    status: str
    project_id: str
    updated_at: str | None
    busy: bool

    @property
    def broken(self) -> bool:
        """Whether the records say already that something is wrong with it."""
        return self.status.startswith("error")

    @property
    def transitional(self) -> bool:
        """Whether its state is one that only work under way may have."""
        return self.status in TRANSITIONAL[self.kind]


@dataclass(frozen=True, slots=True)
class Differences:
    """What does not agree: `missing` rows have no object, `stranded` ones a transitional state that nothing works on
    (with whether the object is there), `orphans` are objects without a row."""

    missing: tuple[Known, ...]
    stranded: tuple[tuple[Known, bool], ...]
    orphans: tuple[InventoryItem, ...]


def compare(before: Iterable[Known], found: Iterable[InventoryItem], after: Iterable[Known]) -> Differences:
    """Compare the records before and after with the `found` inventory of the same service."""
    objects = {(item.kind, item.id): item for item in found}
    first = {(one.kind, one.id): one for one in before}
    last = {(one.kind, one.id): one for one in after}
    unchanged = [one for key, one in last.items() if first.get(key) == one and not one.busy]
    return Differences(
        missing=tuple(
            one for one in unchanged if not one.transitional and not one.broken and (one.kind, one.id) not in objects
        ),
        stranded=tuple((one, (one.kind, one.id) in objects) for one in unchanged if one.transitional),
        orphans=tuple(item for key, item in objects.items() if key not in first and key not in last),
    )
