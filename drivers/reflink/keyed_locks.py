"""Turns by name within one event loop: whoever asks first goes first. Knows nothing of storage.

Every asker queues at all its keys in one step, so two askers stand in the same order at every key they share: nobody
can wait in a circle, and a deletion that is asked for after a copy never overtakes it, as it could if the keys' locks
were taken one after the other.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class KeyedLocks:
    """Exclusion by name, first come first served."""

    def __init__(self) -> None:
        self._last: dict[str, asyncio.Future[None]] = {}

    @asynccontextmanager
    async def holding(self, *keys: str) -> AsyncIterator[None]:
        """Wait for everybody who asked earlier for any of `keys`, then hold them all."""
        ahead = {self._last[key] for key in keys if key in self._last}
        mine: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        for key in keys:
            self._last[key] = mine
        try:
            if ahead:
                await asyncio.wait(ahead)
            yield
        finally:
            waited_for = [turn for turn in ahead if not turn.done()]
            if waited_for:  # cancelled while waiting: whoever waits for us must go on waiting for those before us
                asyncio.gather(*waited_for).add_done_callback(lambda _: self._end(mine, keys))
            else:
                self._end(mine, keys)

    def _end(self, mine: asyncio.Future[None], keys: tuple[str, ...]) -> None:
        mine.set_result(None)
        for key in keys:
            if self._last.get(key) is mine:
                del self._last[key]
