"""One event loop in a thread of its own, in which blocking handles run what the asynchronous ones do."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class Portal:
    """Started at its first use; ends with the process."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._starting = threading.Lock()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """The result of `work`; an interrupted wait cancels it."""
        future = asyncio.run_coroutine_threadsafe(work, self._running())
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def _running(self) -> asyncio.AbstractEventLoop:
        with self._starting:
            if self._loop is None:
                self._loop = asyncio.SelectorEventLoop()  # whatever loop Ray has set as the default
                threading.Thread(target=self._loop.run_forever, name="pumice-handles", daemon=True).start()
            return self._loop


PORTAL = Portal()
