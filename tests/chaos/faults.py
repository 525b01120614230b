"""What is done to the service: processes are killed, stopped for a while, stopped for good; the database goes away.

kill     SIGKILL; it ends at once
pause    SIGSTOP, and SIGCONT later: whoever took the process for dead meets it again
hang     SIGSTOP and nothing else: the service itself must end and replace the process
restart  of what is outside Ray: the database server, `pumice up` itself
"""

from __future__ import annotations

import asyncio
import random
import signal
import time
from collections.abc import Iterable
from dataclasses import dataclass

from actors.processes import Process
from tests.chaos.place import Place, start_again
from tests.chaos.targets import TITLES

_PAUSED = ("volume", "conductor", "scheduler", "replica", "gcs", "raylet")
_HUNG = ("volume", "conductor", "scheduler", "replica", "haproxy", "proxy", "controller", "gcs", "raylet")
KINDS = (
    *(f"kill {name}" for name in TITLES),
    "kill up",
    *(f"pause {name}" for name in _PAUSED),
    *(f"hang {name}" for name in _HUNG),
)
POSTGRESQL = "kill postgresql"
# A pause may outlast the conductor's lease (10 s).
_PAUSE_SECONDS = (2.0, 14.0)
_DATABASE_SECONDS = (0.5, 8.0)


class NoTargetError(Exception):
    """There is no process to hit: the instance was not whole when the fault was due."""


@dataclass(frozen=True)
class Fault:
    """`kind` is of KINDS; `seconds` is how long a pause lasts or a database is away."""

    kind: str
    seconds: float = 0.0

    def __str__(self) -> str:
        return f"{self.kind} for {self.seconds:.1f} s" if self.seconds else self.kind


def draw(kind: str, chance: random.Random) -> Fault:
    """A fault of that kind."""
    if kind.startswith("pause "):
        return Fault(kind, chance.uniform(*_PAUSE_SECONDS))
    return Fault(kind, chance.uniform(*_DATABASE_SECONDS) if kind == POSTGRESQL else 0.0)


def known(kinds: Iterable[str], *, postgresql: bool) -> list[str]:
    """Those of `kinds` that there are on this engine."""
    return [kind for kind in kinds if kind in KINDS or (postgresql and kind == POSTGRESQL)]


class Injector:
    """Does faults to one instance. `release` lets go on what is stopped still."""

    def __init__(self, place: Place, chance: random.Random) -> None:
        self._place, self._chance = place, chance
        self._stopped: list[Process] = []

    async def inject(self, fault: Fault) -> float:
        """Do it; return when it was over, by the monotonic clock. A hang is over when it begins, for nobody ends it;
        what `pumice up` needs to come up again is not part of the fault. Raises NoTargetError."""
        action, _, target = fault.kind.partition(" ")
        if fault.kind == POSTGRESQL:
            await self._database(fault.seconds)
        elif target == "up":
            return await asyncio.to_thread(start_again, self._place)
        else:
            victim = self._victim(target)
            if action == "kill":
                self._place.targets.send(victim, signal.SIGKILL)
            else:
                self._place.targets.send(victim, signal.SIGSTOP)
                self._stopped.append(victim)
            if action == "pause":
                await asyncio.sleep(fault.seconds)
                self.release()
        return time.monotonic()

    def release(self) -> None:
        """Let stopped processes go on that are there still."""
        for process in self._stopped:
            self._place.targets.send(process, signal.SIGCONT)
        self._stopped = []

    def _victim(self, target: str) -> Process:
        found = self._place.targets.find(target)
        if not found:
            raise NoTargetError(f"there is no {target} to hit")
        return self._chance.choice(found)

    async def _database(self, seconds: float) -> None:
        server = self._place.server
        if server is None:
            raise NoTargetError("the instance has no database server")
        await asyncio.to_thread(server.kill)
        await asyncio.sleep(seconds)
        await asyncio.to_thread(server.start)
