"""The API of a simulation: requests through the real intents, each compared with what the model says of it. Several
replicas have the same records; each may be stopped or killed between a request's commit and its answer.

`pick`s choose among what there is: a request taken out of a history leaves the others what they were, as far as that
can be.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from sqlalchemy import Connection

from cluster.caller import Caller
from cluster.errors import RequestError
from cluster.quotas.intents import set_limits
from cluster.reconcile import intents as orphans
from cluster.snapshots import intents as snapshots
from cluster.store.seam import StoreError
from cluster.volumes import deletion, edits, intents
from drivers.memory import BLOCK_BYTES, MemoryBackend
from drivers.vocabulary import NoSpaceError, ObjectKind
from tests.simulation.database import SimulatedStore
from tests.simulation.loop import Process
from tests.simulation.model import Look, Refusal, rows

if TYPE_CHECKING:
    from tests.simulation.world import World

T = TypeVar("T")
PROJECT = "p"
ALICE = Caller("alice", PROJECT, "req-alice", frozenset({"member"}))
ADMIN = Caller("admin", PROJECT, "req-admin", frozenset({"admin"}), is_admin=True)
_VOLUME_STATES = ("available", "error", "creating", "extending", "error_deleting", "maintenance")
_SNAPSHOT_STATES = ("available", "error", "creating", "deleting")


class Replica:
    """One process of the API: a method for each kind of request, all with the same parameters, three numbers that
    choose."""

    def __init__(self, world: World, process: Process) -> None:
        self._world, self._model = world, world.model
        self._outside, self._store = world.outside_of(process), SimulatedStore(world, process)

    async def serve(self) -> None:
        """It has no loop: requests come to it."""

    async def create(self, pick: int, size: int, how: int) -> None:
        """A volume: empty, from a snapshot, or from a volume."""
        source: tuple[ObjectKind, str] | None = None
        if how % 5 == 3 and self._model.snapshots:
            source = (ObjectKind.SNAPSHOT, chosen_of(self._model.snapshots, pick))
        elif how % 5 == 4 and self._model.volumes:
            source = (ObjectKind.VOLUME, chosen_of(self._model.volumes, pick))
        size_gib = None if source and size % 2 else 1 + size % 5
        wanted = intents.NewVolume(
            size_gib=size_gib,
            snapshot_id=source[1] if source and source[0] is ObjectKind.SNAPSHOT else None,
            source_volid=source[1] if source and source[0] is ObjectKind.VOLUME else None,
        )
        world, model = self._world, self._model

        def work(db: Connection) -> None:
            row = intents.create(db, world.settings, self._outside, ALICE, wanted)
            if how % 3 == 0:  # as its type would have it
                db.exec_driver_sql("UPDATE volume SET multiattach = 1 WHERE id = ?", (row["id"],))
            model.volumes.append(row["id"])
            if source is not None:
                model.sources[row["id"]] = source
            model.grant("volume.create", row["id"], _operation(db, row["id"]), size_gib=row["size_gib"])

        await self._ask(lambda look: model.create(look, size_gib, source), work)

    async def extend(self, pick: int, size: int, how: int) -> None:
        """A volume grows."""
        if not self._model.volumes:
            return
        world, model = self._world, self._model
        volume_id = chosen_of(model.volumes, pick)
        row = world.database.look().volumes.get(volume_id)
        size_gib, in_use = (row["size_gib"] if row else 1) + size % 4, how % 3 > 0

        def work(db: Connection) -> None:
            intents.extend(db, world.settings, self._outside, ALICE, volume_id, size_gib, in_use=in_use)
            model.grant("volume.extend", volume_id, _operation(db, volume_id), size_gib=size_gib)

        await self._ask(lambda look: model.extend(look, volume_id, size_gib, in_use=in_use), work)

    async def delete(self, pick: int, _size: int, how: int) -> None:
        """A volume goes, perhaps with its snapshots, perhaps by force."""
        if not self._model.volumes:
            return
        volume_id, cascade, force = chosen_of(self._model.volumes, pick), how % 2 == 0, how % 5 == 0
        model = self._model

        def work(db: Connection) -> None:
            owned = [row["id"] for row in Look.at(db).snapshots_of(volume_id)]
            if deletion.delete_volume(db, self._outside, ALICE, volume_id, cascade=cascade, force=force):
                model.grant("volume.delete", volume_id, _operation(db, volume_id), snapshots=owned)
            else:
                model.grant("volume.delete", volume_id, None)

        await self._ask(lambda look: model.delete(look, volume_id, cascade=cascade, force=force), work)

    async def snapshot(self, pick: int, _size: int, how: int) -> None:
        """A snapshot is taken."""
        if not self._model.volumes:
            return
        volume_id, in_use = chosen_of(self._model.volumes, pick), how % 3 > 0
        world, model = self._world, self._model

        def work(db: Connection) -> None:
            row = snapshots.create(db, world.settings, self._outside, ALICE, volume_id, in_use=in_use)
            model.snapshots.append(row["id"])
            model.sources[row["id"]] = (ObjectKind.VOLUME, volume_id)
            model.grant("snapshot.create", row["id"], _operation(db, row["id"]))

        await self._ask(lambda look: model.take_snapshot(look, volume_id, in_use=in_use), work)

    async def delete_snapshot(self, pick: int, _size: int, how: int) -> None:
        """A snapshot goes, perhaps by force."""
        if not self._model.snapshots:
            return
        snapshot_id, force = chosen_of(self._model.snapshots, pick), how % 4 == 0
        model = self._model

        def work(db: Connection) -> None:
            snapshots.delete(db, self._outside, ALICE, snapshot_id, force=force)
            model.grant("snapshot.delete", snapshot_id, _operation(db, snapshot_id))

        await self._ask(lambda look: model.delete_snapshot(look, snapshot_id, force=force), work)

    async def reset_status(self, pick: int, size: int, how: int) -> None:
        """An administrator writes a state that may be a lie. Always allowed where there is something to write it to."""
        model = self._model
        if how % 3 and model.volumes:
            chosen, state = chosen_of(model.volumes, pick), _VOLUME_STATES[size % len(_VOLUME_STATES)]

            def work(db: Connection) -> None:
                if chosen in Look.at(db).volumes:
                    edits.reset_status(db, self._outside, ADMIN, chosen, status=state)
                    model.reset.add(chosen)
                    model.grant("volume.examine", chosen, newest(db, "volume.examine"))

            await self._ask(lambda _look: None, work)
        elif model.snapshots:
            other, status = chosen_of(model.snapshots, pick), _SNAPSHOT_STATES[size % len(_SNAPSHOT_STATES)]

            def change(db: Connection) -> None:
                if other in Look.at(db).snapshots:
                    snapshots.reset_status(db, self._outside, ADMIN, other, status)
                    model.reset.add(other)
                    model.grant("snapshot.examine", other, newest(db, "snapshot.examine"))

            await self._ask(lambda _look: None, change)

    async def quota(self, pick: int, size: int, _how: int) -> None:
        """An administrator changes a limit of the project."""
        resource = ("volumes", "snapshots", "gigabytes")[pick % 3]
        limit = size % 40 if resource == "gigabytes" else size % 10
        model = self._model

        def work(db: Connection) -> None:
            set_limits(db, PROJECT, {resource: limit})
            model.limits[resource] = limit

        await self._ask(lambda look: model.set_limit(look, resource, limit), work)

    async def orphan(self, pick: int, _size: int, how: int) -> None:
        """A person decides about an object that nobody stands for."""
        world, model = self._world, self._model
        listed = [*world.database.look().orphans]
        if not listed:
            return
        orphan_id = chosen_of(listed, pick)

        def work(db: Connection) -> None:
            if how % 2:
                orphans.delete(db, world.settings, self._outside, ADMIN, orphan_id)
                model.grant("orphan.delete", orphan_id, _operation(db, orphan_id))
            else:
                orphans.adopt(db, self._outside, ADMIN, orphan_id, name=None, volume_type_id=None)
                adopted = model.volumes if orphan_id in Look.at(db).volumes else model.snapshots
                adopted.append(orphan_id)
                model.grant("orphan.adopt", orphan_id, _operation(db, orphan_id))

        await self._ask(None, work)

    async def write(self, pick: int, _size: int, _how: int) -> None:
        """The user of a volume writes to it, as over an attachment."""
        volumes = self._world.database.look().volumes.values()
        whole = [row for row in volumes if row["status"] in ("available", "in-use")]
        if not whole:
            return
        row = whole[pick % len(whole)]
        service, _, pool = (row["host"] or "").partition("#")
        store = self._world.stores.get(service)
        if store is None or (ObjectKind.VOLUME, row["id"]) not in store.pool(pool).objects:
            return
        self._model.marks += 1
        mark = f"mark {self._model.marks:011d}".encode()
        disk = MemoryBackend(store=store)
        disk._epoch = store._epoch  # the bytes go past the service, as those of an attached volume do
        try:
            disk.write(pool, ObjectKind.VOLUME, row["id"], 0, mark + bytes(BLOCK_BYTES - len(mark)))
        except NoSpaceError:
            return
        self._model.content[service, pool, ObjectKind.VOLUME, row["id"]] = mark
        self._world.trace("write", row["id"], mark)

    async def _ask(self, predict: Callable[[Look], Refusal] | None, work: Callable[[Connection], None]) -> None:
        """Run the transaction as the API does. `predict` None: the model has no opinion."""
        world = self._world
        self._model.asked += 1
        try:
            await self._store.write(lambda db: self._judged(db, predict, work))
        except RequestError as error:
            world.trace("refused", type(error).__name__)
        except StoreError:
            world.trace("unknown")
        else:
            world.ring()

    def _judged(self, db: Connection, predict: Callable[[Look], Refusal] | None, work: Callable[[Connection], T]) -> T:
        """Do the work of a request, and see whether the model would have allowed it."""
        if predict is None:
            return work(db)
        expected, world = predict(Look.at(db)), self._world
        try:
            result = work(db)
        except RequestError as error:
            if expected is None or not isinstance(error, expected):
                world.violate(f"refused with {error!r}; the model says {expected}")
            raise
        if expected is not None:
            world.violate(f"allowed; the model says {expected.__name__}")
        return result


def chosen_of(ids: Sequence[str], pick: int) -> str:
    return ids[pick % len(ids)]


def _operation(db: Connection, resource_id: str) -> Any:
    statement = "SELECT id FROM operation WHERE resource_id = ? AND state = 'live'"
    [row] = rows(db, statement, resource_id)
    return row["id"]


def newest(db: Connection, kind: str) -> Any:
    [row] = rows(db, "SELECT id FROM operation WHERE kind = ? ORDER BY rowid DESC LIMIT 1", kind)
    return row["id"]
