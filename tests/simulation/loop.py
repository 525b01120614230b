"""Virtual time: an event loop whose clock jumps to the next timer, and processes that can be stopped and killed in it.

Nothing real is waited for, and threads, executors and sockets are refused: whatever runs here is decided by the order
of its calls alone. Every callback belongs to the process of its context. That of a paused process (SIGSTOP) waits until
it is woken, in order; that of a killed one (SIGKILL) waits for ever: not even its `finally` blocks run.
"""

from __future__ import annotations

import asyncio
import heapq
from collections import deque
from collections.abc import Callable
from contextvars import Context, ContextVar, copy_context
from enum import Enum
from typing import Any, NoReturn


class State(Enum):
    """Of a process."""

    RUNNING = "running"
    PAUSED = "paused"
    DEAD = "dead"


class Process:
    """What is stopped and killed as one. Start tasks of it with `context=process.new_context()`."""

    def __init__(self, role: str, number: int) -> None:
        self.role, self.name = role, f"{role}/{number}"
        self.state = State.RUNNING
        self.actor: Any = None
        self.tasks: list[asyncio.Task[Any]] = []
        self.parked: deque[asyncio.Handle] = deque()

    @property
    def kind(self) -> str:
        """What sort of process it is: conductor, scheduler, volume host or api."""
        return "volume host" if "@" in self.role else self.role.partition(" ")[0]

    def new_context(self) -> Context:
        """A context in which everything belongs to this process."""
        context = _EMPTY.copy()
        context.run(PROCESS.set, self)
        return context

    def pause(self) -> None:
        """SIGSTOP."""
        if self.state is State.RUNNING:
            self.state = State.PAUSED

    def wake(self) -> None:
        """SIGCONT."""
        if self.state is State.PAUSED:
            self.state = State.RUNNING
            self._release()

    def kill(self) -> None:
        """SIGKILL."""
        self.state = State.DEAD

    def bury(self) -> None:
        """After the run: let the tasks end, so that none is left over. What they still do reaches nothing."""
        self.state = State.RUNNING
        self._release()
        for task in self.tasks:
            task.cancel()

    def _release(self) -> None:
        while self.parked:
            handle: Any = self.parked.popleft()
            if not handle.cancelled():
                handle._loop._ready.append(handle)


PROCESS: ContextVar[Process | None] = ContextVar("PROCESS", default=None)
_EMPTY = Context()


class _Gated:
    _context: Context

    def _run(self) -> None:
        process = self._context.get(PROCESS)
        if process is not None and process.state is not State.RUNNING:
            process.parked.append(self)  # type: ignore[arg-type]
        else:
            super()._run()  # type: ignore[misc]


class _Handle(_Gated, asyncio.Handle):
    pass


class _Timer(_Gated, asyncio.TimerHandle):
    pass


class _Selector:
    """Waits for nothing: it moves the clock."""

    def __init__(self) -> None:
        self.now = 0.0

    def select(self, timeout: float | None) -> list[Any]:
        if timeout is None:
            raise RuntimeError("everything waits and no timer is set: a deadlock")
        self.now += timeout
        return []

    def close(self) -> None:
        return None


class VirtualLoop(asyncio.BaseEventLoop):
    """See the module. `complaints` are exceptions that nobody took."""

    def __init__(self) -> None:
        super().__init__()
        self._selector = _Selector()
        self.complaints: list[str] = []
        self.set_exception_handler(lambda _loop, context: self.complaints.append(_complaint(context)))

    def time(self) -> float:
        return self._selector.now

    def outside(self, delay: float, callback: Callable[..., object], *args: Any) -> asyncio.TimerHandle:
        """Call after `delay` seconds, in no process."""
        return self.call_later(delay, callback, *args, context=_EMPTY.copy())

    def call_at(  # type: ignore[override]
        self, when: float, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        timer = _Timer(when, callback, args, self, context if context is not None else copy_context())
        _push(self, timer)
        return timer

    def _call_soon(self, callback: Callable[..., object], args: Any, context: Context | None) -> asyncio.Handle:
        handle = _Handle(callback, args, self, context if context is not None else copy_context())
        ready: deque[asyncio.Handle] = self._ready  # type: ignore[attr-defined]
        ready.append(handle)
        return handle

    def _process_events(self, event_list: object) -> None:
        return None

    def call_soon_threadsafe(self, *_args: Any, **_options: Any) -> NoReturn:  # type: ignore[override]
        raise AssertionError("a simulation has no threads")

    def run_in_executor(self, *_args: Any, **_options: Any) -> NoReturn:  # type: ignore[override]
        raise AssertionError("a simulation has no threads")


def _push(loop: Any, timer: Any) -> None:
    heapq.heappush(loop._scheduled, timer)
    timer._scheduled = True


def _complaint(context: dict[str, Any]) -> str:
    return f"{context.get('message')}: {context.get('exception')!r}"
