"""Trials: a process is stopped (SIGSTOP) at a random moment, another takes over, the first goes on (SIGCONT).

What is random comes from the seed; what the kernel does at that moment does not.
"""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import signal
import tempfile
import time
import uuid
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing import get_context
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

from cluster.caller import Caller
from cluster.outside import Outside
from cluster.settings import Settings
from cluster.store.open import open_store
from cluster.volumes import deletion, intents
from cluster.volumes.intents import NewVolume
from drivers.vocabulary import RetryableError, VolumeSpec
from tests.integration.fences import evidence, mutants
from tests.integration.fences.evidence import DATABASE, Effects
from tests.integration.fences.processes import (
    LEASE_LOST,
    SERVICE,
    Wire,
    conductor,
    name_of_host,
    scheduler,
    settings_of,
    volume_host,
)

_FORKS = get_context("forkserver")
_FORKS.set_forkserver_preload(["tests.integration.fences.processes", "cluster.store.sqlite", "pytest"])
_ALICE = Caller("alice", "p", f"req-{uuid.UUID(int=1)}")
_PATIENCE_SECONDS = 60.0  # for what must come; a machine may be slow


@dataclass
class Verdict:
    """What came of the trials of one arena. `trials` are those in which the stopped one was replaced or, where nobody
    may replace it, was stopped beyond its lease; `vain` those in which it held up the others by the database's lock."""

    trials: int = 0
    vain: int = 0
    writes: int = 0
    effects: int = 0
    ended: int = 0
    stale: list[str] = field(default_factory=list)

    def add(self, other: Verdict) -> None:
        """Count another one in."""
        self.trials += other.trials
        self.vain += other.vain
        self.writes += other.writes
        self.effects += other.effects
        self.ended += other.ended
        self.stale += other.stale


class Arena:
    """A directory with a database, a scheduler, and the processes of a trial."""

    def __init__(self, directory: Path, seed: int, settings: Settings) -> None:
        self.directory, self.settings = directory, settings
        self.random = random.Random(seed)
        self.effects = Effects(directory)
        self.verdict = Verdict()
        self.processes: dict[str, ForkServerProcess] = {}
        self._born = 0

    @classmethod
    @contextmanager
    def set_up(cls, template: Path, seed: int, **timing: float) -> Iterator[Arena]:
        """`template` is a migrated database."""
        directory = Path(tempfile.mkdtemp(prefix="fences-"))
        shutil.copyfile(template, directory / DATABASE)
        evidence.watch_writes(directory)
        arena = cls(directory, seed, settings_of(directory, **timing))
        try:
            arena.start("scheduler", scheduler, directory, arena.settings)
            yield arena
        finally:
            for process in arena.processes.values():
                process.kill()
                process.join()
            shutil.rmtree(directory)

    def start(self, name: str, work: Callable[..., None], *args: object) -> None:
        """A process that runs `work(*args)`."""
        self.processes[name] = _FORKS.Process(target=work, args=args, daemon=True, name=name)
        self.processes[name].start()

    def new_name(self, kind: str) -> str:
        """Of a process that is to be."""
        self._born += 1
        return f"{kind}-{self._born}"

    def signal(self, name: str, number: signal.Signals) -> None:
        """To a process that has not been waited for."""
        pid = self.processes[name].pid
        assert pid is not None
        os.kill(pid, number)

    def holder(self, name: str) -> str:
        """Which process has the lease by the records."""
        return (evidence.lease(self.directory, name) or ("", 0))[0].split(" ")[0]

    async def pause(self, longest_seconds: float) -> None:
        """Wait for a random time."""
        await asyncio.sleep(self.random.random() * longest_seconds)

    async def ended(self, name: str) -> None:
        """Wait for the end of a process whose lease was lost."""
        process = self.processes.pop(name)
        try:
            await until(lambda: process.exitcode is not None, f"{name}, whose lease another has, ends")
        finally:
            process.kill()
            process.join()
        if process.exitcode == LEASE_LOST:
            self.verdict.ended += 1

    def close(self) -> Verdict:
        """Look at the evidence."""
        effects = self.effects.all()
        self.verdict.writes, self.verdict.effects = len(evidence.writes(self.directory)), len(effects)
        self.verdict.stale += evidence.stale_writes(self.directory)
        self.verdict.stale += evidence.stale_commands(effects) + evidence.strangers(effects)
        return self.verdict


async def until(condition: Callable[[], object], what: str, seconds: float = _PATIENCE_SECONDS) -> None:
    """Wait until it is so. Raises TimeoutError, which says what was not."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"after {seconds:g} s it is not so that {what}")
        await asyncio.sleep(0.005)


async def conductors(
    template: Path, seed: int, count: int, mutant: Callable[[], None], host: Callable[[], None]
) -> Verdict:
    """Two conductors under requests; the one that has the lease is stopped until the other has taken it."""
    timing = {"heartbeat": 0.2, "backend_lease": 20.0, "service_down": 20.0, "lease": 0.4, "poll": 0.02}
    with Arena.set_up(template, seed, **timing) as arena:
        store = open_store(arena.settings.database)
        arena.start(
            "host", volume_host, arena.directory, arena.settings, name_of_host(), "host", arena.directory / "pool", host
        )
        await until(lambda: arena.holder(f"backend:{SERVICE}"), "the backend has its lease")

        def begin() -> None:
            name = arena.new_name("conductor")
            arena.start(name, conductor, arena.directory, arena.settings, name, mutant)

        async def tend() -> None:
            # On a busy machine some lose their lease without being stopped.
            for name in [name for name, process in arena.processes.items() if process.exitcode is not None]:
                await arena.ended(name)
                begin()

        begin()
        begin()
        while arena.verdict.trials < count:
            await tend()
            await until(lambda: arena.holder("conductor") in arena.processes, "a conductor has the lease")
            await store.write(lambda db: _request(db, arena))
            await arena.pause(0.06)
            victim = arena.holder("conductor")
            arena.signal(victim, signal.SIGSTOP)
            try:
                await until(lambda: arena.holder("conductor") != victim, "another takes the lease", seconds=1.0)  # noqa: B023
                arena.verdict.trials += 1
                await arena.pause(0.1)
            except TimeoutError:
                arena.verdict.vain += 1
            arena.signal(victim, signal.SIGCONT)
            if arena.holder("conductor") != victim:
                await arena.ended(victim)
                begin()
        if mutant is mutants.none and host is mutants.none:
            deadline = time.monotonic() + 2 * _PATIENCE_SECONDS
            while evidence.live_operations(arena.directory):
                assert time.monotonic() < deadline, f"{evidence.live_operations(arena.directory)} operations are live"
                await tend()
                await asyncio.sleep(0.05)
            whole = {f"volume-{key}" for key, status in evidence.statuses(arena.directory).items()}
            assert set(evidence.statuses(arena.directory).values()) <= {"available"}
            assert {entry.name for entry in (arena.directory / "pool" / "volumes").iterdir()} == whole
        await store.close()
        return arena.close()


def _request(db: Any, arena: Arena) -> None:
    """Some creates, and the deletion of some volumes that are there."""
    outside = Outside()
    available = [key for key, status in evidence.statuses(arena.directory).items() if status == "available"]
    for volume_id in arena.random.sample(available, min(3, len(available))):
        deletion.delete_volume(db, outside, _ALICE, volume_id, cascade=False, force=False)
    for _ in range(4 if evidence.live_operations(arena.directory) < 16 else 0):  # a slow machine must not fall behind
        intents.create(db, arena.settings, outside, _ALICE, NewVolume(size_gib=1))


_HOSTS = {"heartbeat": 0.1, "backend_lease": 0.4, "service_down": 0.4, "lease": 10.0, "poll": 1.0}


class Hosts:
    """Two volume hosts for one `host@backend`, and who calls them; `pools` are their directories."""

    def __init__(self, arena: Arena, pools: tuple[str, str], mutant: Callable[[], None]) -> None:
        self.arena, self._mutant, self._pools = arena, mutant, pools
        self._wire = Wire(arena.directory)
        self._pool_of: dict[str, str] = {}
        for pool in pools:
            self.begin(pool)

    def begin(self, pool: str) -> None:
        """One more."""
        arena, name = self.arena, self.arena.new_name("host")
        self._pool_of[name] = pool
        arena.start(
            name, volume_host, arena.directory, arena.settings, name, name, arena.directory / pool, self._mutant
        )

    async def replace(self, name: str) -> None:
        """It ends; another begins in its place."""
        await self.arena.ended(name)
        self.begin(self._pool_of.pop(name))

    def other(self, name: str) -> str:
        """The other one."""
        return next(one for one in self._pool_of if one != name)

    async def serving(self) -> str:
        """Which one has the lease, once one does."""
        while True:
            name = self.arena.holder(f"backend:{SERVICE}")
            if name in self._pool_of and await self.call(name):
                return name
            await asyncio.sleep(0.01)

    async def call(self, name: str) -> bool:
        """Have it make a volume; whether it did. The epoch is always the same: none of them is to be stopped by it."""
        volume_id = str(uuid.UUID(int=self.arena.random.getrandbits(128)))
        context = {"epoch": 1, "request_id": "r", "resource_id": volume_id}
        try:
            await self._wire.call(
                name, "call", "ensure_volume", "p", (VolumeSpec(volume_id, 1),), context, timeout_seconds=20.0
            )
        except (RetryableError, self._wire.ActorUnavailableError):
            return False
        return True


async def one_pool(template: Path, seed: int, count: int, mutant: Callable[[], None]) -> Verdict:
    """Two volume hosts on one pool of one machine. While the one that holds it is stopped, for longer than its lease,
    the other must not get it; when it is killed, the other gets it without waiting for the lease."""
    with Arena.set_up(template, seed, **_HOSTS) as arena:
        hosts = Hosts(arena, ("pool", "pool"), mutant)
        while arena.verdict.trials < count:
            victim = await asyncio.wait_for(hosts.serving(), _PATIENCE_SECONDS)
            calls = [asyncio.create_task(hosts.call(victim)) for _ in range(3)]
            await arena.pause(0.01)
            arena.signal(victim, signal.SIGSTOP)
            await asyncio.sleep(0.45)
            if await hosts.call(hosts.other(victim)):
                arena.verdict.stale.append(f"{hosts.other(victim)} works in the pool that {victim} holds")
            await arena.pause(0.1)
            arena.verdict.trials += 1
            if arena.random.random() < 0.25:
                arena.signal(victim, signal.SIGKILL)
                await hosts.replace(victim)
            else:
                arena.signal(victim, signal.SIGCONT)
            await asyncio.gather(*calls)
            if mutant is not mutants.none:
                for name in [name for name, process in arena.processes.items() if process.exitcode is not None]:
                    await hosts.replace(name)
        return arena.close()


async def two_machines(template: Path, seed: int, count: int, mutant: Callable[[], None]) -> Verdict:
    """Two volume hosts of one name whose storages have nothing to do with each other, as on two machines: only the
    lease keeps them apart. Calls that wait at the stopped one are in an epoch that is good."""
    with Arena.set_up(template, seed, **_HOSTS) as arena:
        hosts = Hosts(arena, ("here", "there"), mutant)
        lease = f"backend:{SERVICE}"
        while arena.verdict.trials < count:
            victim = await asyncio.wait_for(hosts.serving(), _PATIENCE_SECONDS)
            await arena.pause(0.1)
            arena.signal(victim, signal.SIGSTOP)
            await until(lambda: arena.holder(lease) != victim, "another takes the lease")  # noqa: B023
            arena.verdict.trials += 1
            calls = [asyncio.create_task(hosts.call(victim)) for _ in range(3)]
            await arena.pause(0.1)
            arena.signal(victim, signal.SIGCONT)
            await hosts.replace(victim)
            await asyncio.gather(*calls)
        return arena.close()


def run(trials: Coroutine[Any, Any, Verdict]) -> Verdict:
    """Run an arena in this thread."""
    return asyncio.run(trials)
