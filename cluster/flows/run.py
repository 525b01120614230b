"""One run of a flow: steps that are done once, and the transactions that record them.

A flow's function calls `await run.step(name, act)` for each step and ends with `run.finish(...)`. A step whose row is
there returns its recorded result without acting. Crash windows, at each of which a test may kill: before the act
(`before`), after its effect and before its row (`effect`), after the row (`row`).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from sqlalchemy import Connection

from cluster.flows.ports import BackendPort, Ports
from cluster.journal import ledger
from cluster.journal.ledger import Entry, FencedError
from cluster.outside import Outside
from cluster.scheduling.decide import NoPlacementError
from cluster.settings import Settings
from cluster.store.seam import Store, Work
from drivers.vocabulary import BackendUnavailableError, FinalError, RetryableError

T = TypeVar("T")
Result = Mapping[str, Any]
Act = Callable[[], Awaitable[Result | None]]
Record = Callable[[Connection, Result], None]
Checkpoint = Callable[[str, str, str], Awaitable[None]]


async def no_checkpoint(kind: str, step: str, phase: str) -> None:
    """The checkpoint of production: nothing happens."""


@dataclass(frozen=True)
class Context:
    """What every run shares."""

    store: Store
    outside: Outside
    settings: Settings
    ports: Ports
    checkpoint: Checkpoint = no_checkpoint


@dataclass
class Run:
    """The run of one operation under one epoch of the conductor's lease. `may_act`: whether the lease has not run out
    by the conductor's own clock."""

    context: Context
    entry: Entry
    epoch: int
    may_act: Callable[[], bool] = lambda: True
    _seq: int = field(default=0, init=False)

    def backend(self, host: str) -> BackendPort:
        """The pool `host@backend#pool`, called for this operation."""
        return self.context.ports.backend(
            host, epoch=self.epoch, request_id=self.entry.request_id, resource_id=self.entry.resource_id
        )

    async def read(self, work: Work[T]) -> T:
        """Run `work` on the records."""
        return await self.context.store.read(work)

    async def step(self, name: str, act: Act, record: Record | None = None) -> Result:
        """Do the step unless its row is there; write its row, and `record` in the same transaction."""
        return await self._step(name, act, record, last=False)

    async def last_step(self, name: str, act: Act, record: Record) -> Result:
        """A step whose row, whose `record` and the end of the operation are one transaction."""
        return await self._step(name, act, record, last=True)

    async def _step(self, name: str, act: Act, record: Record | None, *, last: bool) -> Result:
        self._seq += 1
        seq, kind = self._seq, self.entry.kind
        if name in self.entry.steps:
            return self.entry.steps[name]
        await self.context.checkpoint(kind, name, "before")
        if not self.may_act():
            raise FencedError(f"the lease of epoch {self.epoch} has run out; {name} is not begun")
        result = await act() or {}
        # Crash window: the effect is there and the row is not. The repeat acts again, and finds the effect.
        await self.context.checkpoint(kind, name, "effect")
        now = self.context.outside.now()

        def write(db: Connection) -> None:
            ledger.write_step(db, self.entry.id, self.epoch, seq, name, result, now)
            if record is not None:
                record(db, result)
            if last:
                ledger.close(db, self.entry.id, self.epoch, now)

        await self.context.store.write(write)
        await self.context.checkpoint(kind, name, "row")
        return result

    async def fail(self, failure: Failure, record: Callable[[Connection], None]) -> None:
        """Close the operation as failed, with what `record` writes in the same transaction."""
        await self.context.checkpoint(self.entry.kind, "fail", "before")

        def write(db: Connection) -> None:
            ledger.close(db, self.entry.id, self.epoch, self.context.outside.now(), failure.detail)
            record(db)

        await self.context.store.write(write)
        await self.context.checkpoint(self.entry.kind, "fail", "row")


@dataclass(frozen=True)
class Failure:
    """A final error, as it is kept in the journal while the undo runs. `error` is the class name of the cause,
    `message` a text for the user, `detail` one for operators."""

    error: str
    message: str
    detail: str

    @classmethod
    def of_error(cls, error: Exception, request_id: str) -> Failure:
        """What users are told of `error`: refusals and verdicts of storage in their own words, anything else (it may
        hold paths, addresses, secrets) as a sentence that sends them to an operator."""
        if isinstance(error, NoPlacementError):
            message = error.refusal.details  # which filter removed which host
        elif isinstance(error, FinalError):
            message = str(error)
        elif isinstance(error, BackendUnavailableError):
            message = f"The storage it has to be on is not available. Ask an operator to look ({request_id})."
        elif isinstance(error, RetryableError):
            message = f"A part of the service that it needs was busy for too long. Try again ({request_id})."
        else:
            message = f"Something unexpected went wrong. Ask an operator to look ({request_id})."
        return cls(type(error).__name__, message, f"{type(error).__name__}: {error}")


@dataclass(frozen=True)
class Flow:
    """A kind of operation. `forward` does it; after a final error `undo` takes it back and closes it with
    `run.fail`. `steps` and `undo_steps` are the step names either may record, for the enumeration of crash points."""

    kind: str
    steps: tuple[str, ...]
    undo_steps: tuple[str, ...]
    forward: Callable[[Run], Awaitable[None]]
    undo: Callable[[Run, Failure], Awaitable[None]]
