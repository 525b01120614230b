"""The reference model: what may be asked in which state, what was promised to whom, and which bytes are where.

Written from the rules of Cinder's states, not from the code under test. It is told the present states (they change in
the background), and answers whether a request is to be allowed; it remembers what was granted, for the reckoning at
the end (`invariants`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection

from cluster.errors import InvalidInputError, InvalidStateError, NotFoundError, OverQuotaError, RequestError
from drivers.vocabulary import ObjectKind
from tests.simulation.claims import Claims

Row = Mapping[str, Any]
Place = tuple[str, str, ObjectKind, str]  # service, pool, kind, id
Refusal = type[RequestError] | None
UNWRITTEN = b"\0" * 16
MOVING = frozenset(
    {
        "creating", "deleting", "extending", "managing", "retyping", "downloading", "uploading", "reverting",
        "unmanaging", "backing-up", "restoring-backup", "updating", "restoring", "error_managing_deleting",
    }
)  # fmt: skip


def rows(db: Connection, statement: str, *parameters: object) -> list[dict[str, Any]]:
    """What a plain statement finds, past SQLAlchemy: checks are made more often than anything else."""
    driver: Any = db.connection.driver_connection
    cursor = driver.execute(statement, parameters)
    names = [column[0] for column in cursor.description]
    return [dict(zip(names, values, strict=True)) for values in cursor]


@dataclass(frozen=True)
class Look:
    """The records at one moment, by id. `live` maps resources to the kind of the operation on them."""

    volumes: dict[str, Row]
    snapshots: dict[str, Row]
    orphans: dict[str, Row]
    attachments: dict[str, Row]
    connections: dict[str, Row]
    live: dict[str, str]

    @classmethod
    def at(cls, db: Connection) -> Look:
        """Read everything."""

        def table(name: str, time: str = "created_at") -> dict[str, Row]:
            return {row["id"]: row for row in rows(db, f"SELECT * FROM {name} ORDER BY {time}, id")}

        volumes: dict[str, Row] = {
            key: {**row, "attached_mode": json.loads(row["admin_metadata"]).get("attached_mode")}
            for key, row in table("volume").items()
        }
        live = rows(db, "SELECT resource_id, kind FROM operation WHERE state = 'live'")
        return cls(
            volumes,
            table("snapshot"),
            table("orphan", "first_seen_at"),
            table("attachment"),
            table("volume_connection"),
            {row["resource_id"]: row["kind"] for row in live},
        )

    def rows(self) -> list[Row]:
        """All volumes, then all snapshots."""
        return [*self.volumes.values(), *self.snapshots.values()]

    def placed(self) -> list[tuple[ObjectKind, Row, str | None]]:
        """All volumes and snapshots, with the pool each is to be in."""
        volumes = [(ObjectKind.VOLUME, row, row["host"]) for row in self.volumes.values()]
        of_snapshots = {row["id"]: self.volumes[row["volume_id"]]["host"] for row in self.snapshots.values()}
        return volumes + [(ObjectKind.SNAPSHOT, row, of_snapshots[row["id"]]) for row in self.snapshots.values()]

    def snapshots_of(self, volume_id: str) -> list[Row]:
        """The snapshots of a volume."""
        return [row for row in self.snapshots.values() if row["volume_id"] == volume_id]

    def attachments_of(self, volume_id: str) -> list[Row]:
        """The attachments of a volume."""
        return [row for row in self.attachments.values() if row["volume_id"] == volume_id]

    def copies(self, volume_id: str | None, snapshots: set[str]) -> bool:
        """Whether a copy of the volume or of one of the snapshots is under way."""
        return any(
            row["status"] == "creating"
            and (row["snapshot_id"] in snapshots or row["source_volid"] == (volume_id or ""))
            for row in self.volumes.values()
        )

    def usage(self) -> dict[str, int]:
        """What counts towards the quota."""
        volumes, snapshots = list(self.volumes.values()), list(self.snapshots.values())
        grown = sum(max(row["size_gib"], row["target_size_gib"] or 0) for row in volumes)
        return {
            "volumes": len(volumes),
            "snapshots": len(snapshots),
            "gigabytes": grown + sum(row["size_gib"] for row in snapshots),
        }


@dataclass(frozen=True)
class Granted:
    """A request that was committed. `operation_id` None: it was done at once."""

    kind: str
    resource_id: str
    operation_id: str | None
    args: Mapping[str, Any] = field(default_factory=dict)


class Model:
    """`content` is the mark that the first bytes of each object must show, `granted` what was committed, in order."""

    def __init__(self, limits: Mapping[str, int]) -> None:
        self.limits = dict(limits)
        self.granted: list[Granted] = []
        self.volumes: list[str] = []
        self.snapshots: list[str] = []
        self.sources: dict[str, tuple[ObjectKind, str]] = {}
        self.content: dict[Place, bytes] = {}
        self.to_be_deleted: set[str] = set()
        self.reset: set[str] = set()
        self.claims = Claims()
        self.asked = self.marks = 0

    def grant(self, kind: str, resource_id: str, operation_id: str | None, **args: Any) -> None:
        """Remember what was committed."""
        self.granted.append(Granted(kind, resource_id, operation_id, args))
        if kind in ("volume.delete", "snapshot.delete", "orphan.delete"):
            self.to_be_deleted |= {resource_id, *args.get("snapshots", ())}

    def create(self, look: Look, size_gib: int | None, source: tuple[ObjectKind, str] | None) -> Refusal:
        """A volume, empty or a copy."""
        if source is not None:
            kind, source_id = source
            row = (look.volumes if kind is ObjectKind.VOLUME else look.snapshots).get(source_id)
            if row is None:
                return NotFoundError
            if row["status"] not in (("available", "in-use") if kind is ObjectKind.VOLUME else ("available",)):
                return InvalidStateError
            removing = kind is ObjectKind.SNAPSHOT and look.live.get(row["volume_id"]) == "volume.delete"
            if source_id in look.live or removing:
                return InvalidStateError
            if size_gib is not None and size_gib < row["size_gib"]:
                return InvalidInputError
            size_gib = size_gib or row["size_gib"]
        return self._room(look, volumes=1, gigabytes=size_gib or 0)

    def extend(self, look: Look, volume_id: str, size_gib: int, *, in_use: bool) -> Refusal:
        """A volume is to grow."""
        row = look.volumes.get(volume_id)
        if row is None:
            return NotFoundError
        if size_gib <= row["size_gib"]:
            return InvalidInputError
        if row["status"] not in (("available", "in-use") if in_use else ("available",)):
            return InvalidStateError
        # The target of an extend under way counts already; here there is none, unless its state was reset.
        counted = max(row["size_gib"], row["target_size_gib"] or 0)
        over = self._room(look, gigabytes=size_gib - row["size_gib"]) if counted else None
        return over or (InvalidStateError if volume_id in look.live else None)

    def delete(self, look: Look, volume_id: str, *, cascade: bool, force: bool) -> Refusal:
        """A volume is to go."""
        row = look.volumes.get(volume_id)
        if row is None:
            return NotFoundError
        owned = look.snapshots_of(volume_id)
        if row["host"] is None and not owned and volume_id not in look.live:
            return None
        deletable = {"available", "error", "error_restoring", "error_extending", "error_managing"}
        allowed = (
            (force or row["status"] in deletable) and (cascade or not owned) and row["attach_status"] != "attached"
        )
        allowed = allowed and (force or all(one["status"] in ("available", "error") for one in owned))
        ids = {one["id"] for one in owned}
        moving = {one["id"] for one in look.connections.values() if one["volume_id"] == volume_id}
        if not allowed or look.copies(volume_id, ids) or (ids | moving | {volume_id}) & look.live.keys():
            return InvalidStateError
        return None

    def take_snapshot(self, look: Look, volume_id: str, *, in_use: bool) -> Refusal:
        """A snapshot is to be taken."""
        row = look.volumes.get(volume_id)
        if row is None:
            return NotFoundError
        if row["host"] is None or row["status"] not in (("available", "in-use") if in_use else ("available",)):
            return InvalidStateError
        if volume_id in look.live:
            return InvalidStateError
        return self._room(look, snapshots=1, gigabytes=row["size_gib"])

    def delete_snapshot(self, look: Look, snapshot_id: str, *, force: bool) -> Refusal:
        """A snapshot is to go."""
        row = look.snapshots.get(snapshot_id)
        if row is None:
            return NotFoundError
        if not (force or row["status"] in ("available", "error")):
            return InvalidStateError
        return InvalidStateError if look.copies(None, {snapshot_id}) or snapshot_id in look.live else None

    def set_limit(self, look: Look, resource: str, limit: int) -> Refusal:
        """An administrator changes a limit."""
        return InvalidInputError if 0 <= limit < look.usage()[resource] else None

    def _room(self, look: Look, **more: int) -> Refusal:
        used = look.usage()
        for resource, amount in more.items():
            if 0 <= self.limits[resource] < used[resource] + amount:
                return OverQuotaError
        return None
