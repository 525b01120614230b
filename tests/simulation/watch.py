"""What must hold at every moment, whatever fails: looked at whenever something is written."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from cluster.conductor import Conductor
from drivers.vocabulary import ObjectKind
from tests.simulation.loop import Process
from tests.simulation.model import UNWRITTEN, Place

if TYPE_CHECKING:
    from tests.simulation.world import World

_WHOLE = frozenset({"available", "in-use", "extending", "error_extending"})


class Watch:
    """Reports what may not be to `world.violate`. `late`: where an object was made after nobody wanted it any more."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.late: set[Place] = set()
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
        stale = epoch < self._epochs[service]
        if holds:
            self._epochs[service] = max(epoch, self._epochs[service])
        return stale

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
        """A driver removed an object: nobody may want its bytes any more."""
        model = self._world.model
        excused = object_id in model.to_be_deleted or object_id in model.reset  # a state that was reset proves nothing
        if not excused and self._row((service, pool, kind, object_id)) in _WHOLE:
            self._world.violate(f"{kind} {object_id} was removed from {service}#{pool}, and nobody had deleted it")

    def _row(self, place: Place) -> str | None:
        """The state of the resource that the records have at this very place."""
        service, pool, kind, object_id = place
        joined = "volume v" if kind is ObjectKind.VOLUME else "snapshot s JOIN volume v ON v.id = s.volume_id"
        one = "v" if kind is ObjectKind.VOLUME else "s"
        statement = f"SELECT {one}.status FROM {joined} WHERE {one}.id = ? AND v.host = ?"
        found = self._world.database.rows(statement, object_id, f"{service}#{pool}")
        return str(found[0]["status"]) if found else None
