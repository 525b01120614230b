"""What must hold at every moment, whatever fails: looked at whenever something is written."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from typing import TYPE_CHECKING

from cluster.conductor import Conductor
from drivers.vocabulary import ConnectionSpec, ObjectKind
from tests.simulation.loop import Process
from tests.simulation.model import UNWRITTEN, Place
from tests.simulation.network import REPLY

if TYPE_CHECKING:
    from tests.simulation.world import World

_WHOLE = frozenset(
    {"available", "reserved", "attaching", "in-use", "detaching", "extending", "error_extending"},
)


class Watch:
    """Reports what may not be to `world.violate`. `late`: where an object was made after nobody wanted it any more;
    `let_in_late`: connections that are open though nobody wants them so any more, `ever_late`: that were so once."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.late: set[Place] = set()
        self.let_in_late: set[str] = set()
        self.ever_late: set[str] = set()
        self._epochs: Counter[str] = Counter()

    def committed(self, process: Process) -> None:
        """A transaction that changed something: no conductor writes while another holds the lease."""
        conductor = getattr(process.actor, "conductor", None)
        if not isinstance(conductor, Conductor):
            return
        for lease in self._world.database.rows("SELECT holder, epoch FROM lease WHERE name = 'conductor'"):
            stale = conductor.epoch is not None and conductor.epoch != lease["epoch"]
            if stale or lease["holder"] != conductor._holder:
                self._world.violate(
                    f"stale write: {process.name} of epoch {conductor.epoch} wrote while the lease is {lease}"
                )

    def is_stale(self, service: str, epoch: int, *, holds: bool) -> bool:
        """Whether a call that reaches the driver is of a conductor older than one that commanded this storage before.
        It must have no effect. `holds`: the driver holds the storage; one that does not has not heard of the newer."""
        stale = self.is_replaced(service, epoch)
        if holds:
            self._epochs[service] = max(epoch, self._epochs[service])
        return stale

    def is_replaced(self, service: str, epoch: int) -> bool:
        """Whether a conductor newer than that of the epoch has commanded this storage."""
        return epoch < self._epochs[service]

    def born(self, service: str, pool: str, kind: ObjectKind, object_id: str) -> None:
        """A driver made an object: it has the content that its source has at this moment."""
        world, place = self._world, (service, pool, kind, object_id)
        row = self._row(place)
        wanted = "SELECT 1 FROM operation WHERE resource_id = ? AND state = 'live' AND failing IS NULL"
        if row is None or not world.database.rows(wanted, object_id):
            # A message that was overtaken by all that came after it. Nobody can know but by looking at the storage.
            self.late.add(place)
        again = place in world.model.content and object_id not in world.model.to_be_deleted
        if again and row == "available":
            world.violate(f"{kind} {object_id} was available, then lost, and is made anew: its data is gone")
        source = world.model.sources.get(object_id)
        content = UNWRITTEN
        if source is not None:
            content = world.model.content.get((service, pool, *source), UNWRITTEN)
        world.model.content[place] = content

    def removed(self, service: str, pool: str, kind: ObjectKind, object_id: str) -> None:
        """A driver removed an object: nobody may want its bytes any more, or have them in hand."""
        model = self._world.model
        for each, spec in self._world.consumers[service].served.items():
            if spec.volume_id == object_id and each not in self.let_in_late:
                self._world.violate(f"volume {object_id} was removed while connection {each} let somebody in")
        excused = object_id in model.to_be_deleted or object_id in model.reset  # a state that was reset proves nothing
        if not excused and self._row((service, pool, kind, object_id)) in _WHOLE:
            self._world.violate(f"{kind} {object_id} was removed from {service}#{pool}, and nobody had deleted it")

    def let_in(self, spec: ConnectionSpec) -> None:
        """An export let a consumer in: the records want just that. A message that nobody waits for any more may have
        been overtaken by all that came after it, and only a look at the export can tell."""
        self.let_in_late.discard(spec.id)
        database, reply = self._world.database, REPLY.get()
        wanted = "SELECT connector, mode, secret FROM volume_connection WHERE id = ?"
        found = [(json.loads(row["connector"]), row["mode"], row["secret"]) for row in database.rows(wanted, spec.id)]
        ending = (
            "SELECT 1 FROM operation WHERE state = 'live' AND (resource_id = ? AND "
            "(kind = 'connection.close' OR failing IS NOT NULL) OR resource_id = ? AND kind = 'volume.delete')"
        )
        wish = (dict(spec.connector), spec.mode.value, spec.secret)
        if found == [wish] and not database.rows(ending, spec.id, spec.volume_id):
            return
        if reply is not None and not reply.done():
            self._world.violate(f"connection {spec.id} lets in {wish[:2]}, and the records want {found} at most")
        self.let_in_late.add(spec.id)
        self.ever_late.add(spec.id)

    def told_gone(self, connections: Iterable[str]) -> None:
        """A client was told that these have ended, or failed: nobody is let in by them but who asked for it anew."""
        for each in connections:
            there = self._world.database.rows("SELECT 1 FROM volume_connection WHERE id = ?", each)
            served = any(each in one.served for one in self._world.consumers.values())
            if served and not there and each not in self.let_in_late:
                self._world.violate(f"connection {each} was told to have ended, and its consumer is let in")

    def _row(self, place: Place) -> str | None:
        """The state of the resource that the records have at this very place."""
        service, pool, kind, object_id = place
        joined = "volume v" if kind is ObjectKind.VOLUME else "snapshot s JOIN volume v ON v.id = s.volume_id"
        one = "v" if kind is ObjectKind.VOLUME else "s"
        statement = f"SELECT {one}.status FROM {joined} WHERE {one}.id = ? AND v.host = ?"
        found = self._world.database.rows(statement, object_id, f"{service}#{pool}")
        return str(found[0]["status"]) if found else None
