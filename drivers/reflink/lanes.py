"""The threads of one open backend, in lanes: what must be quick never waits behind what may be long. Knows no calls.

Copies may take all work threads for minutes. Measuring must not wait for them, or the host's heartbeats stop and its
service counts as down; nor for the listing of a large pool; nor may a new conductor wait for any of these.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from enum import StrEnum
from typing import TypeVar

T = TypeVar("T")


class Lane(StrEnum):
    """What a thread is for. Each lane but `work` has one thread, so its calls come one after the other."""

    WORK = "work"
    MEASURE = "measure"
    LIST = "list"
    MARK = "mark"


class Lanes:
    """Threads named after `name`; `workers` of them in the lane `work`. A thread is begun when it is first needed."""

    def __init__(self, name: str, workers: int) -> None:
        self._executors = {
            lane: ThreadPoolExecutor(workers if lane is Lane.WORK else 1, thread_name_prefix=f"{name}-{lane.value}")
            for lane in Lane
        }

    async def run(self, lane: Lane, work: Callable[[], T]) -> T:
        """Run `work` in a thread of `lane`; raises what it raises."""
        return await asyncio.get_running_loop().run_in_executor(self._executors[lane], work)

    def end(self) -> None:
        """Take no more work. Does not wait for what runs."""
        for executor in self._executors.values():
            executor.shutdown(wait=False)
