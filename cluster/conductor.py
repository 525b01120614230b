"""The conductor: it holds the lease, claims live operations, and drives each through its flow until it is closed.

What an error does to an operation (families of `drivers.vocabulary`):

- *final*: written into the journal, then only the undo runs, until it has closed the operation;
- *retryable* (nothing was done): again after 1 s doubling to 5 min; final after `RETRIES` refusals, unless an earlier
  try of the operation was uncertain, since then a refusal says nothing of what that one did;
- *uncertain*: again with the same back-off, on the same backend, without an end;
- a stale epoch: another conductor drives it now, so this one lets go;
- anything else is a defect of ours: as retryable, and logged with its traceback.

Claiming is in memory: only the holder of the lease drives operations, and every write it makes is fenced by its epoch.
By its own clock it stops before that: when the lease has run out, it begins no step until it is renewed, and when
another has it, it stops for good.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping
from dataclasses import asdict

import structlog

from cluster.flows.run import Context, Failure, Flow, Run
from cluster.flows.subjects import GoneError
from cluster.journal import lease, ledger
from cluster.journal.ledger import CONDUCTOR, Entry, FencedError
from cluster.lease_lost import LeaseLostError
from cluster.messages.intents import prune
from cluster.outside import stamp
from cluster.reconcile.reconciler import Reconciler
from cluster.scheduling.decide import NoPlacementError
from cluster.store.seam import StoreError
from drivers.vocabulary import FinalError, RetryableError, StaleEpochError, UncertainError

RETRIES = 9  # 1 + 2 + 4 + … + 256 s: after about eight minutes of refusals the user is told
_LONGEST_BACKOFF = 300.0
_AT_ONCE = 1024  # a run that waits holds a place; calls are bounded for each backend (`actors.ports`)
_CLAIM = 500
log = structlog.get_logger()


def backoff(attempts: int) -> float:
    """Seconds to wait after the `attempts`-th failure: 1, 2, 4 … 300."""
    return min(_LONGEST_BACKOFF, 2.0 ** min(attempts - 1, 16))


class Conductor:
    """Drives the journal. `holder` names who holds the lease: the same name may take it back at once."""

    def __init__(self, context: Context, flows: Mapping[str, Flow], holder: str) -> None:
        self._context = context
        self._flows = flows
        self._holder = holder
        self._bell = asyncio.Event()
        self._running: dict[str, asyncio.Task[None]] = {}
        self._places = asyncio.Semaphore(_AT_ONCE)
        self._epoch: int | None = None
        self._lease_ends = 0.0  # of `outside.monotonic`
        self._reconciler = Reconciler(context)
        self._reconciling: asyncio.Task[None] | None = None

    @property
    def epoch(self) -> int | None:
        """The epoch of the lease while it is held."""
        return self._epoch

    def may_act(self) -> bool:
        """Whether the lease is held by this process's own clock, which counts from before the lease was asked for."""
        return self._epoch is not None and self._context.outside.monotonic() < self._lease_ends

    def wake(self) -> None:
        """There may be work: look now rather than at the next poll."""
        self._bell.set()

    async def serve(self) -> None:
        """Hold the lease and drive operations until cancelled. Raises LeaseLostError when another has taken the lease,
        with every run stopped."""
        timing = self._context.settings.timing
        chores = 0.0
        try:
            while True:
                try:
                    await self.hold_lease()
                    now = self._context.outside.seconds()
                    if self._epoch is not None and self.may_act():
                        await self.claim()
                        if now - chores >= timing.reconcile:
                            chores = now
                            await self._prune(now)
                            self._reconcile(self._epoch)
                except StoreError as error:
                    log.warning("conductor.store", error=str(error))
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._bell.wait(), timing.poll)
                self._bell.clear()
        finally:
            await self.stop()

    async def claim(self) -> None:
        """Start a run for every live operation that is due and not running."""
        epoch = self._epoch
        if epoch is None:
            return
        now = self._context.outside.seconds()
        due = await self._context.store.read(lambda db: ledger.due(db, now))
        new = [operation_id for operation_id in due if operation_id not in self._running]
        for entry in await self._context.store.read(lambda db: ledger.load(db, new[:_CLAIM])) if new else []:
            task = asyncio.create_task(self._run(entry, epoch), name=f"{entry.kind} {entry.resource_id}")
            self._running[entry.id] = task
            task.add_done_callback(lambda _task, key=entry.id: self._running.pop(key, None))  # type: ignore[misc]

    async def settle(self) -> None:
        """Wait until nothing that was claimed is running (for tests)."""
        while self._running:
            await asyncio.wait(list(self._running.values()))

    async def _run(self, entry: Entry, epoch: int) -> None:
        async with self._places:
            structlog.contextvars.bind_contextvars(
                request_id=entry.request_id, operation_id=entry.id, resource_id=entry.resource_id
            )
            try:
                if await self.drive(entry, epoch):
                    for again in await self._context.store.read(lambda db: ledger.load(db, [entry.id])):
                        await self.drive(again, epoch)
            except FencedError as error:
                log.warning("operation.fenced", error=str(error))
            except StoreError as error:
                log.warning("operation.store", error=str(error))

    async def drive(self, entry: Entry, epoch: int) -> bool:
        """One attempt at the operation; what comes of it is in the journal afterwards. True when its undo is due."""
        flow = self._flows[entry.kind]
        run = Run(self._context, entry, epoch, self.may_act)
        try:
            if entry.failing is None:
                log.info("operation.forward", kind=entry.kind, attempts=entry.attempts)
                await flow.forward(run)
            else:
                log.info("operation.undo", kind=entry.kind, attempts=entry.attempts, failing=entry.failing)
                await flow.undo(run, Failure(**entry.failing))
            log.info("operation.closed", kind=entry.kind)
        except (FencedError, StoreError):
            raise
        except GoneError as error:
            await self._close(entry, epoch, str(error))
        except (FinalError, NoPlacementError) as error:
            return await self._fail(entry, epoch, error)
        except UncertainError as error:
            await self._later(entry, epoch, error, uncertain=True)
        except StaleEpochError as error:
            raise FencedError(str(error)) from error
        except RetryableError as error:
            return await self._retry(entry, epoch, error)
        except Exception as error:
            log.exception("operation.defect", kind=entry.kind)
            return await self._retry(entry, epoch, error)
        return False

    async def _retry(self, entry: Entry, epoch: int, error: Exception) -> bool:
        """Nothing was done: again later, but not for ever. An undo is never given up."""
        if entry.failing is None and not entry.uncertain and entry.refusals + 1 >= RETRIES:
            return await self._fail(entry, epoch, error)
        await self._later(entry, epoch, error, uncertain=False)
        return False

    async def _later(self, entry: Entry, epoch: int, error: Exception, *, uncertain: bool) -> None:
        wait = backoff(entry.attempts + 1)
        at = self._context.outside.seconds() + wait
        reason = f"{type(error).__name__}: {error}"
        log.warning("operation.later", kind=entry.kind, attempts=entry.attempts + 1, seconds=wait, error=reason)
        await self._context.store.write(
            lambda db: ledger.write_later(db, entry, epoch, at, reason, uncertain=uncertain)
        )

    async def _fail(self, entry: Entry, epoch: int, error: Exception) -> bool:
        """Write the verdict; then the undo is due. An undo that meets a final error itself is tried again later."""
        if entry.failing is not None:
            await self._later(entry, epoch, error, uncertain=False)
            return False
        failure = Failure.of_error(error, entry.request_id)
        log.warning("operation.failing", kind=entry.kind, error=failure.detail)
        await self._context.store.write(lambda db: ledger.write_failing(db, entry.id, epoch, asdict(failure)))
        return True

    async def _close(self, entry: Entry, epoch: int, error: str) -> None:
        now = self._context.outside.now()
        await self._context.store.write(lambda db: ledger.close(db, entry.id, epoch, now, error))

    async def hold_lease(self) -> None:
        """Take the lease if it is not held, renew it when a third of its life is over. Raises LeaseLostError."""
        life = self._context.settings.timing.lease
        if self._epoch is None:
            await self.take_lease()
        elif self._context.outside.monotonic() >= self._lease_ends - life * 2 / 3:
            await self._renew(self._epoch)

    async def take_lease(self) -> None:
        """Take the lease if it is to be had; `epoch` says whether."""
        outside, life = self._context.outside, self._context.settings.timing.lease
        asked_at, now = outside.monotonic(), outside.seconds()
        self._epoch = await self._context.store.write(lambda db: lease.take(db, CONDUCTOR, self._holder, now, life))
        self._lease_ends = asked_at + life
        if self._epoch is not None:
            log.info("conductor.lease", epoch=self._epoch, holder=self._holder)

    async def _renew(self, epoch: int) -> None:
        outside, life = self._context.outside, self._context.settings.timing.lease
        asked_at, now = outside.monotonic(), outside.seconds()
        if await self._context.store.write(lambda db: lease.renew(db, CONDUCTOR, epoch, now, life)):
            self._lease_ends = asked_at + life
            return
        log.critical("conductor.lease_lost", epoch=epoch)
        self._epoch = None
        await self.stop()
        raise LeaseLostError(f"another conductor has taken the lease of epoch {epoch}; this process must end")

    async def stop(self) -> None:
        """Cancel every run where it stands; the journal knows how far each got."""
        tasks = list(self._running.values())
        if self._reconciling is not None:
            tasks.append(self._reconciling)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _reconcile(self, epoch: int) -> None:
        """Compare records and backends beside the runs, unless the last comparison is still under way."""
        if self._reconciling is None or self._reconciling.done():
            self._reconciling = asyncio.create_task(self._compare(epoch), name="reconcile")

    async def _compare(self, epoch: int) -> None:
        structlog.contextvars.clear_contextvars()
        try:
            await self._reconciler.round(epoch)
        except (FencedError, StoreError) as error:
            log.warning("reconcile.stopped", error=str(error))
        except Exception:  # a defect here must not end the conductor; the next round tries again
            log.exception("reconcile.defect")

    async def _prune(self, now: float) -> None:
        before = stamp(now - self._context.settings.timing.operation_history)
        await self._context.store.write(lambda db: ledger.forget(db, before))
        await self._context.store.write(lambda db: prune(db, now))
