"""Remembering validated tokens for a short while, and asking only once for a token that many requests bring.

Tokens are kept as their SHA-256: anybody may send one, of any length, and memory should hold none that works.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

T = TypeVar("T")
_MOST = 10_000


class Memory(Generic[T]):
    """Values by token, each for `seconds`, at most 10,000. A failure to find a value is not remembered, it reaches all
    who wait. Values that are `forgettable` are not remembered either: those that cost nothing to find again."""

    def __init__(
        self,
        seconds: float,
        clock: Callable[[], float] = time.monotonic,
        forgettable: Callable[[T], bool] = lambda _: False,
    ) -> None:
        self._seconds, self._clock, self._forgettable = seconds, clock, forgettable
        self._known: OrderedDict[bytes, tuple[float, T]] = OrderedDict()
        self._flights: dict[bytes, asyncio.Task[T]] = {}

    def __len__(self) -> int:
        """How many values are remembered."""
        return len(self._known)

    async def get(self, token: str, find: Callable[[], Awaitable[T]]) -> T:
        """The value of `token`, found with `find` if it is not known. What `find` raises is raised."""
        key = _key(token)
        known = self._known.get(key)
        if known is not None and self._clock() < known[0]:
            return known[1]
        flight = self._flights.get(key)
        if flight is None:
            flight = asyncio.ensure_future(self._find(key, find))
            self._flights[key] = flight
            flight.add_done_callback(lambda done: self._landed(key, done))
        # Shielded: the first who asked may go away while others wait for the same answer.
        return await asyncio.shield(flight)

    def forget(self, token: str | None = None) -> None:
        """Forget one token, or all."""
        if token is None:
            self._known.clear()
        else:
            self._known.pop(_key(token), None)

    async def _find(self, key: bytes, find: Callable[[], Awaitable[T]]) -> T:
        asked_at = self._clock()
        value = await find()
        if self._seconds > 0 and not self._forgettable(value):
            self._known[key] = (asked_at + self._seconds, value)
            self._known.move_to_end(key)
            if len(self._known) > _MOST:
                self._known.popitem(last=False)
        return value

    def _landed(self, key: bytes, flight: asyncio.Task[T]) -> None:
        self._flights.pop(key, None)
        if not flight.cancelled():
            flight.exception()  # looked at, so that a failure nobody waits for any more is not reported as lost


def _key(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()
