"""Remembering validated tokens for a short while, and asking only once for a token that many requests bring."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

T = TypeVar("T")
_MOST = 10_000


class Memory(Generic[T]):
    """Values by token, each for `seconds`. A failure to find a value is not remembered, it reaches all who wait."""

    def __init__(self, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._seconds, self._clock = seconds, clock
        self._known: OrderedDict[str, tuple[float, T]] = OrderedDict()
        self._flights: dict[str, asyncio.Task[T]] = {}

    async def get(self, token: str, find: Callable[[], Awaitable[T]]) -> T:
        """The value of `token`, found with `find` if it is not known. What `find` raises is raised."""
        known = self._known.get(token)
        if known is not None and self._clock() < known[0]:
            return known[1]
        flight = self._flights.get(token)
        if flight is None:
            flight = asyncio.ensure_future(self._find(token, find))
            self._flights[token] = flight
            flight.add_done_callback(lambda done: self._landed(token, done))
        # Shielded: the first who asked may go away while others wait for the same answer.
        return await asyncio.shield(flight)

    def forget(self, token: str | None = None) -> None:
        """Forget one token, or all."""
        if token is None:
            self._known.clear()
        else:
            self._known.pop(token, None)

    async def _find(self, token: str, find: Callable[[], Awaitable[T]]) -> T:
        asked_at = self._clock()
        value = await find()
        if self._seconds > 0:
            self._known[token] = (asked_at + self._seconds, value)
            self._known.move_to_end(token)
            if len(self._known) > _MOST:
                self._known.popitem(last=False)
        return value

    def _landed(self, token: str, flight: asyncio.Task[T]) -> None:
        self._flights.pop(token, None)
        if not flight.cancelled():
            flight.exception()  # looked at, so that a failure nobody waits for any more is not reported as lost
