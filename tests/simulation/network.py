"""The calls between actors, with everything that can happen to a message. Stands in for `actors.ray_port`."""

from __future__ import annotations

import asyncio
from collections import Counter
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from actors.ray_port import ActorUnavailableError, NotSentError, OutcomeUnknownError
from tests.simulation.loop import PROCESS, Process, State

if TYPE_CHECKING:
    from tests.simulation.world import World


REPLY: ContextVar[asyncio.Future[Any] | None] = ContextVar("REPLY", default=None)
"""Of the call that is being served: settled when its caller waits no more."""


class Network:
    """Names and the processes that answer to them. `cut` are processes that nobody reaches and that reach nobody."""

    ActorUnavailableError = ActorUnavailableError

    def __init__(self, world: World) -> None:
        self._world = world
        self.names: dict[str, Process] = {}
        self.cut: set[Process] = set()
        self.travelling = 0
        self._serving: Counter[Process] = Counter()
        self._waiting: dict[asyncio.Future[Any], Process] = {}
        self._sent = 0
        self._latest: Counter[Process] = Counter()

    async def call(self, actor_name: str, method: str, *args: Any, timeout_seconds: float) -> Any:
        """See `actors.ray_port.call`."""
        target, faults, chance = self.names.get(actor_name), self._world.faults, self._world.chance
        if target is None:
            await asyncio.sleep(chance.latency())
            raise NotSentError(f"there is no actor {actor_name}")
        loop = self._world.loop
        reply: asyncio.Future[Any] = loop.create_future()
        self._waiting[reply] = target
        delay = chance.latency()
        if faults.strikes("delay"):
            delay += chance.within(0.1, 40.0)
        arrivals = [delay]
        if faults.strikes("duplicate"):
            arrivals.append(delay + chance.within(0.0, 30.0))
        if self._parted(target) or faults.strikes("silence"):
            arrivals = []
        elif faults.strikes("drop"):
            arrivals = []
            loop.outside(chance.within(0.0, 5.0), _fail, reply, "the connection broke before the call was sent")
        self._sent += 1
        for at in arrivals:
            self.travelling += 1
            loop.outside(at, self._arrive, target, method, args, reply, self._sent)
        try:
            return await asyncio.wait_for(reply, timeout_seconds)
        except TimeoutError as error:
            raise OutcomeUnknownError(f"{actor_name}.{method} did not answer in {timeout_seconds:g} s") from error
        finally:
            self._waiting.pop(reply, None)

    def ring(self, actor_name: str, method: str) -> None:
        """See `actors.ray_port.ring`."""
        target = self.names.get(actor_name)
        if target is None or self._parted(target) or self._world.faults.strikes("drop"):
            return
        self.travelling += 1
        self._sent += 1
        reply: asyncio.Future[Any] = self._world.loop.create_future()
        self._world.loop.outside(self._world.chance.latency(), self._arrive, target, method, (), reply, self._sent)

    def died(self, process: Process) -> None:
        """Those who wait for it hear of it after a while."""
        for reply, target in self._waiting.items():
            if target is process:
                self._world.loop.outside(self._world.chance.within(0.0, 2.0), _fail, reply, "the actor went away")

    @property
    def quiet(self) -> bool:
        """Whether no call but heartbeats is under way to a process that lives, or in one."""
        return not self.travelling and not any(
            number for process, number in self._serving.items() if process.state is not State.DEAD
        )

    def _parted(self, target: Process) -> bool:
        return target in self.cut or PROCESS.get() in self.cut

    def _arrive(
        self, target: Process, method: str, args: tuple[Any, ...], reply: asyncio.Future[Any], number: int
    ) -> None:
        """The `number`-th message that was sent arrives."""
        self.travelling -= 1
        world = self._world
        if number < self._latest[target]:
            world.faults.counts["reorder"] += 1
        self._latest[target] = max(number, self._latest[target])
        world.trace("arrive", target.name, method)
        if target.state is State.DEAD or target.actor is None:
            world.loop.outside(world.chance.latency(), _fail, reply, "the actor is dead")
            return
        self._serving[target] += 1
        task = world.loop.create_task(self._serve(target, method, args, reply), context=target.new_context())
        target.tasks.append(task)

    async def _serve(self, target: Process, method: str, args: tuple[Any, ...], reply: asyncio.Future[Any]) -> None:
        world, error, result = self._world, None, None
        REPLY.set(reply)
        try:
            result = await getattr(target.actor, method)(*args)
        except Exception as raised:  # it goes to the caller
            error = raised
        self._serving[target] -= 1
        if self._parted(target) or world.over:
            return
        if world.faults.strikes("lose-reply"):
            world.loop.outside(world.chance.within(0.0, 5.0), _fail, reply, "the connection broke before the answer")
            return
        world.loop.outside(world.chance.latency(), _settle, reply, result, error)


def _settle(reply: asyncio.Future[Any], result: Any, error: Exception | None) -> None:
    if reply.done():
        return
    if error is None:
        reply.set_result(result)
    else:
        reply.set_exception(error)
        reply.exception()  # whoever waited may have given up


def _fail(reply: asyncio.Future[Any], reason: str) -> None:
    _settle(reply, None, OutcomeUnknownError(reason))
