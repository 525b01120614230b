"""Waiting for the end of an operation by reading the records: no actor is asked, so it outlives any conductor."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, TypeVar

from sqlalchemy import Connection, select
from sqlmodel import col

from cluster.journal.records import Operation, OperationState
from cluster.outside import Outside
from cluster.store.seam import Store

WAIT_SECONDS: Final = 50.0
_SHORTEST_PAUSE_SECONDS: Final = 0.005
_LONGEST_PAUSE_SECONDS: Final = 0.1
_SHARE_OF_WAIT: Final = 0.25
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Work:
    """Operations whose end a request waits for. `again`: they are an earlier request's and in the way; when they have
    ended, the same intent is to be tried again."""

    operations: tuple[str, ...]
    again: bool = False


@dataclass(frozen=True, slots=True)
class Outcome:
    """How operations ended: LIVE when one of them had not ended in time (it goes on), FAILED when one failed. `error`
    is the failed one's `ErrorClass: text`, for operators and logs: it may hold paths."""

    state: OperationState
    error: str | None = None


async def wait(
    store: Store, outside: Outside, operations: tuple[str, ...], *, timeout_seconds: float = WAIT_SECONDS
) -> Outcome:
    """Wait until all of the operations have ended, looking every 5 ms at first and every 100 ms at last: what a look
    comes too late is at most a quarter of the wait. An operation that is not in the records any more counts as done."""
    began = outside.monotonic()
    while True:
        found = await store.read(lambda db: _look(db, operations))
        waited = outside.monotonic() - began
        if found.state is not OperationState.LIVE or waited >= timeout_seconds:
            return found
        await asyncio.sleep(min(max(_SHORTEST_PAUSE_SECONDS, waited * _SHARE_OF_WAIT), _LONGEST_PAUSE_SECONDS))


async def carry_out(
    store: Store,
    outside: Outside,
    intent: Callable[[Connection], T],
    work_of: Callable[[T], Work | None],
    ring: Callable[[], object],
    *,
    timeout_seconds: float = WAIT_SECONDS,
) -> tuple[T, Outcome]:
    """Run `intent` in a transaction, ring the conductor and wait for the operations of its `work_of`; while they are
    another request's (`Work.again`), repeat. Return what the last `intent` returned and the outcome; without work it
    is DONE. What `intent` raises comes out, also from a repeat."""
    deadline = outside.monotonic() + timeout_seconds
    while True:
        result = await store.write(intent)
        work = work_of(result)
        if work is None:
            return result, Outcome(OperationState.DONE)
        ring()
        outcome = await wait(store, outside, work.operations, timeout_seconds=max(0.0, deadline - outside.monotonic()))
        if not work.again or outcome.state is OperationState.LIVE:
            return result, outcome


def _look(db: Connection, operations: tuple[str, ...]) -> Outcome:
    rows = db.execute(select(col(Operation.state), col(Operation.error)).where(col(Operation.id).in_(operations))).all()
    for state in (OperationState.LIVE, OperationState.FAILED):
        for row in rows:
            if row.state == state:
                return Outcome(state, row.error)
    return Outcome(OperationState.DONE)
