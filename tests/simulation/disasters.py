"""What goes wrong beyond single calls: processes die, stop and double, links are cut, disks fill, clocks differ."""

from __future__ import annotations

from typing import TYPE_CHECKING

from drivers.memory import BLOCK_BYTES, MemoryBackend, _Object
from drivers.vocabulary import GIB, NoSpaceError, ObjectKind
from tests.simulation.faults import WINDOWS
from tests.simulation.history import ROLES, SERVICES, Event, rate
from tests.simulation.loop import Process, State

if TYPE_CHECKING:
    from tests.simulation.world import World


class Disasters:
    """One method for each kind of disaster. `heal` ends all."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._zombies: list[Process] = []
        self._full: dict[tuple[str, str], int] = {}
        self._strays = 0

    def window(self, event: Event) -> None:
        """Calls of one kind fail for a while."""
        name, faults = WINDOWS[event.a % len(WINDOWS)], self._world.faults
        faults.start(name, rate(event))
        self._world.loop.outside(event.seconds, faults.stop, name)

    def kill(self, event: Event) -> None:
        """SIGKILL; the process is started again some time later."""
        process = self._chosen(event)
        self._count("kill", process)
        self._kill(process)
        self._world.loop.outside(event.seconds / 4, self._start_again, process)

    def reboot(self, event: Event) -> None:
        """A node is rebooted, or the daemon of its exports dies alone: nobody is let in any more."""
        service = SERVICES[event.a % len(SERVICES)]
        process = self._world.current[service]
        self._world.faults.counts["reboot" if event.b % 2 else "exports lost"] += 1
        if event.b % 2:
            self._kill(process)
            self._world.loop.outside(event.seconds / 4, self._start_again, process)
        self._world.consumers[service].lose_all()

    def pause(self, event: Event) -> None:
        """SIGSTOP, and SIGCONT later."""
        process = self._chosen(event)
        self._count("pause", process)
        process.pause()
        self._world.loop.outside(event.seconds, self._wake, process)

    def twin(self, event: Event) -> None:
        """A second process is started while the first lives. Mostly the first was stopped before, keeps getting calls
        for some seconds, wakes later, acts for a while as if nothing had been, and is killed. A conductor's twin has,
        at times, the name of the first."""
        world, first = self._world, self._chosen(event)
        self._count("twin", first)
        if event.b % 4:
            first.pause()
        self._zombies.append(first)
        holder = None
        if first.role == "conductor" and event.c % 3 == 0 and first.actor is not None:
            holder = first.actor.conductor._holder
        started = (0.0, 3.0, 6.0)[event.a // len(ROLES) % 3]
        world.loop.outside(started, self._start_again, first, holder)
        world.loop.outside(started + event.seconds, self._wake, first)
        world.loop.outside(started + event.seconds + 15.0, self._kill, first)

    def cut(self, event: Event) -> None:
        """Nobody reaches the process, and it reaches nobody (but the database)."""
        process, network = self._chosen(event), self._world.network
        self._count("cut", process)
        network.cut.add(process)
        self._world.loop.outside(event.seconds, network.cut.discard, process)

    def full(self, event: Event) -> None:
        """A disk is full."""
        service = SERVICES[event.a % len(SERVICES)]
        name = sorted(self._world.stores[service].pools())[event.b % len(self._world.stores[service].pools())]
        pool = self._world.stores[service].pool(name)
        self._world.faults.counts["full"] += 1
        self._full.setdefault((service, name), pool.capacity_bytes)
        pool.capacity_bytes = pool.used_bytes
        self._world.loop.outside(event.seconds, self._empty, service, name)

    def stray(self, event: Event) -> None:
        """Somebody puts an object into a pool behind everybody's back."""
        world, service = self._world, SERVICES[event.a % len(SERVICES)]
        self._strays += 1
        world.faults.counts["stray"] += 1
        stray_id, mark = f"00000000-0000-4000-9000-{self._strays:012d}", f"stray {self._strays:010d}".encode()
        store = world.stores[service]
        disk = MemoryBackend(store=store)
        disk._epoch = store._epoch
        made = store.pool("p1").objects
        key = (ObjectKind.VOLUME, stray_id)
        try:
            disk._ensure("p1", *key, 1, _Object)
            disk.write("p1", *key, 0, mark + bytes(BLOCK_BYTES - len(mark)))
        except NoSpaceError:
            made.pop(key, None)
            return
        made[key].size_bytes = GIB + (event.b % 2) * 4096
        place = (service, "p1", *key)
        world.model.content[place] = mark
        world.watch.late.add(place)

    def skew(self, event: Event) -> None:
        """The clock of a role is wrong by up to four seconds, from now on."""
        role = ROLES[event.a % len(ROLES)]
        self._world.faults.counts["skew"] += 1
        self._world.skews[role] = event.b % 9 - 4

    def end(self, process: Process) -> None:
        """The process ended itself. Ray starts it again if it is the one of that name."""
        self._count("end", process)
        self._kill(process)
        self._world.loop.outside(2.0, self._start_again, process)

    def heal(self) -> None:
        """Nothing goes wrong any more."""
        world = self._world
        world.faults.rates.clear()
        world.network.cut.clear()
        for zombie in self._zombies:
            self._start_again(zombie)
            self._kill(zombie)
        for process in world.processes:
            process.wake()
        for service, name in [*self._full]:
            self._empty(service, name)

    def _chosen(self, event: Event) -> Process:
        return self._world.current[ROLES[event.a % len(ROLES)]]

    def _count(self, what: str, process: Process) -> None:
        self._world.faults.counts[f"{what} {process.kind}"] += 1

    def _wake(self, process: Process) -> None:
        if process.state is State.PAUSED and self._lapsed(process):
            self._count("wake past the lease of", process)
        process.wake()

    def _lapsed(self, process: Process) -> bool:
        """Whether the process believes to hold what is not its any more: the lease, or the storage."""
        actor = process.actor
        if process.kind == "volume host" and actor is not None:
            return actor.backend.epoch is not None and not actor.backend.holds
        if process.kind == "conductor" and actor is not None and actor.conductor.epoch is not None:
            now, epoch = self._world.outside_of(process).seconds(), actor.conductor.epoch
            mine = "SELECT 1 FROM lease WHERE name = 'conductor' AND epoch = ? AND expires_at > ?"
            return not self._world.database.rows(mine, epoch, now)
        return False

    def _kill(self, process: Process) -> None:
        if process.state is not State.DEAD:
            self._world.trace("kill", process.name)
            process.kill()
            self._world.network.died(process)

    def _start_again(self, process: Process, holder: str | None = None) -> None:
        if self._world.current[process.role] is process:
            self._world.start(process.role, holder)

    def _empty(self, service: str, name: str) -> None:
        capacity = self._full.pop((service, name), None)
        if capacity is not None:
            self._world.stores[service].pool(name).capacity_bytes = capacity
