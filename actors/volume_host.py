"""One backend on one host: it opens the storage, reports its pools, and runs the driver for the conductor.

The plain class behind the volume actor; no Ray. Holds no records: all it knows comes with the calls, and the lease
under which it acts with the answers to its reports (docs/decisions/0006-the-lease-of-a-backend.md).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import structlog

from actors.exporting import Exporting
from cluster.lease_lost import LeaseLostError
from cluster.outside import boot_seconds
from cluster.services.report import LeaseAnswer, ServiceReport, holder_name
from cluster.storage_network.seam import StorageNetwork
from drivers.protocols import Backend, Clones, Export, Fences, Holds, Snapshots
from drivers.vocabulary import (
    BackendUnavailableError,
    ConnectionItem,
    InventoryItem,
    PoolReport,
    StaleEpochError,
    StorageError,
    UncertainError,
    UnsupportedError,
)

log = structlog.get_logger()

# Which optional protocol a call belongs to.
_CALLS: Mapping[str, type] = {
    "ensure_volume": Backend,
    "ensure_volume_absent": Backend,
    "ensure_size": Backend,
    "ensure_snapshot": Snapshots,
    "ensure_snapshot_absent": Snapshots,
    "ensure_volume_from_snapshot": Snapshots,
    "ensure_volume_from_volume": Clones,
}


# Without a lease a host does nothing: it asks more often than it beats.
_ASK_SECONDS = 1.0


class VolumeHost:
    """`host` is `host@backend`; `process` names this one unlike any other that ever was, without a space; `report`
    delivers a heartbeat and may fail; times are seconds, `clock` one that only goes forward, also while the machine
    sleeps."""

    def __init__(
        self,
        host: str,
        backend: Backend,
        *,
        availability_zone: str,
        node_labels: Mapping[str, str],
        heartbeat: float,
        process: str,
        report: Callable[[ServiceReport], Awaitable[LeaseAnswer]],
        exports: Sequence[Export] = (),
        network: StorageNetwork | None = None,
        leaving: Sequence[Export] = (),
        clock: Callable[[], float] = boot_seconds,
    ) -> None:
        self.host = host
        self._backend = backend
        self._exporting = Exporting(host, backend, exports, network, leaving)
        self._zone = availability_zone
        self._labels = dict(node_labels)
        self._heartbeat = heartbeat
        self._report = report
        self._process = process
        self._clock = clock
        self._closed_because: str | None = "it has not been opened yet"
        self._holder = holder_name(process, None, 0.0)
        self._lease_epoch: int | None = None
        self._lease_ends = 0.0
        self._waits_for: str | None = None
        self._latest_epoch = 0
        self._admitted_epoch: int | None = None
        self._admitting = asyncio.Lock()

    async def serve(self) -> None:
        """Open the storage (again and again if need be) and report, until cancelled; no driver's failure ends it.
        Raises LeaseLostError without waiting for what still works on the storage: whoever runs this has to end."""
        try:
            while True:
                await self.beat()
                await asyncio.sleep(self._heartbeat if self.may_act else min(_ASK_SECONDS, self._heartbeat))
        except LeaseLostError:
            raise
        except BaseException:
            await self._close()
            raise

    async def call(
        self, method: str, pool: str, args: tuple[Any, ...], *, epoch: int, request_id: str, resource_id: str
    ) -> Any:
        """Run one driver call. Raises `StorageError`s only: BackendUnavailableError while the storage is closed or the
        lease is not held, StaleEpochError for a conductor that was replaced, UnsupportedError where the driver has no
        such power, UncertainError for whatever else comes out of the driver."""
        with (
            structlog.contextvars.bound_contextvars(request_id=request_id, resource_id=resource_id),
            self._storage_errors_only(method),
        ):
            await self._admit(epoch)
            act = self._act(method, pool, args)
            try:
                # Nothing is awaited between the checks of epoch and lease and here. A process that is stopped just here
                # and goes on when its lease has run out still holds the storage, so nobody else does. A call of an
                # older epoch that passed the check before a newer epoch came may still wait in the driver for its turn
                # on the object. That does no harm: a driver takes the calls on one object in the order they were made,
                # so the newer epoch's call finds what the older one left.
                observed = await act()
            except StorageError as error:
                log.warning("driver.refused", method=method, pool=pool, error=f"{type(error).__name__}: {error}")
                raise
            log.info("driver.done", method=method, pool=pool)
            return observed

    def _act(self, method: str, pool: str, args: tuple[Any, ...]) -> Callable[[], Awaitable[Any]]:
        """What the call `method` does, by the backend or by its exports."""
        if method == "ensure_connection":
            return lambda: self._exporting.ensure_connection(pool, *args)
        if method == "ensure_connection_absent":
            return lambda: self._exporting.ensure_connection_absent(*args)
        protocol = _CALLS.get(method)
        if protocol is None or not isinstance(self._backend, protocol):
            raise UnsupportedError(f"backend {self.host} cannot do {method}")
        if method == "ensure_size":
            return lambda: self._grow(pool, *args)
        return lambda: getattr(self._backend, method)(pool, *args)

    async def _grow(self, pool: str, volume_id: str, size_gib: int) -> Any:
        observed = await self._backend.ensure_size(pool, volume_id, size_gib)
        await self._exporting.resized(pool, volume_id)
        return observed

    async def connections(self, *, epoch: int) -> list[ConnectionItem]:
        """Every connection that its exports serve. Raises as `call` does."""
        with self._storage_errors_only("connections"):
            await self._admit(epoch)
            return await self._exporting.connections()

    async def inventory(self, *, epoch: int) -> list[InventoryItem]:
        """Every whole object of the backend. Raises as `call` does."""
        with self._storage_errors_only("inventory"):
            await self._admit(epoch)
            return await self._backend.inventory()

    @contextmanager
    def _storage_errors_only(self, method: str) -> Iterator[None]:
        try:
            yield
        except StorageError:
            raise
        except Exception as error:  # a defect of the driver, after which anything may have happened
            log.exception("driver.defect", host=self.host, method=method)
            # Its text stays in the log: this message can reach a tenant.
            raise UncertainError(f"{method} on {self.host}: {_defect(error)}") from error

    async def _admit(self, epoch: int) -> None:
        """Let a call of the conductor's `epoch` through; the storage remembers the latest where it can.

        Whoever calls with a later epoch proves that the earlier ones were replaced. So these are refused from that
        moment: also while the storage is still writing the later epoch down, and also if it fails to. Of the latest
        epoch, nobody passes before the storage has it.
        """
        self._latest_epoch = max(epoch, self._latest_epoch)
        self._refuse_replaced(epoch)
        self._refuse_without_lease()
        if epoch == self._admitted_epoch:
            return
        async with self._admitting:
            if epoch >= self._latest_epoch and epoch != self._admitted_epoch:
                if isinstance(self._backend, Fences):
                    await self._backend.admit(epoch)
                self._admitted_epoch = epoch
        self._refuse_replaced(epoch)
        self._refuse_without_lease()

    @property
    def may_act(self) -> bool:
        """Whether the storage is open and the lease held, by this process's own clock."""
        return self._closed_because is None and self._clock() < self._lease_ends

    def _refuse_without_lease(self) -> None:
        if self._closed_because is not None:
            raise BackendUnavailableError(f"backend {self.host} is not open: {self._closed_because}")
        if not self.may_act:
            raise BackendUnavailableError(
                f"backend {self.host} has no valid lease: the scheduler has not answered its last reports, or another "
                "process has the lease; nothing was done"
            )

    def _refuse_replaced(self, epoch: int) -> None:
        latest = self._latest_epoch
        if epoch < latest:
            raise StaleEpochError(f"{self.host}: the conductor of epoch {epoch} was replaced by that of {latest}")

    async def _open(self) -> None:
        self._admitted_epoch = None  # while it was closed, others may have opened it and made it obey a later epoch
        try:
            await self._backend.open()
        except Exception as error:  # whatever it is, the next beat tries again
            self._note_closed("backend.closed", error)
        else:
            self._closed_because = None
            place = self._backend.place if isinstance(self._backend, Holds) else None
            self._holder = holder_name(self._process, place, self._clock())
            log.info("backend.open", host=self.host)

    async def _close(self) -> None:
        await self._exporting.close()
        try:
            await self._backend.close()
        except Exception:  # it counts as closed all the same, and the next beat opens it again
            log.exception("backend.close_failed", host=self.host)

    def _note_closed(self, event: str, error: Exception) -> None:
        expected = isinstance(error, StorageError)
        because = str(error) if expected else _defect(error)
        if self._closed_because != because:
            log.warning(event, host=self.host, error=because, exc_info=None if expected else error)
        self._closed_because = because
        self._lease_ends = 0.0

    async def beat(self) -> None:
        """Open the storage if it is not, measure the pools, report, take note of the lease. Raises LeaseLostError."""
        if self._closed_because is not None:
            await self._open()
        if self._closed_because is None:
            await self._exporting.open()
        try:
            pools = await self._backend.pools() if self._closed_because is None else []
        except Exception as error:
            # The storage went away under us (unmounted, failed): close, and let the next beat open it again.
            self._note_closed("backend.lost", error)
            pools = []
            await self._close()
        report = ServiceReport(
            host=self.host,
            availability_zone=self._zone,
            node_labels=self._labels,
            backend_up=self._closed_because is None,
            pools=[self._reachable(pool) for pool in pools],
            holder=self._holder,
        )
        asked_at = self._clock()  # the lease runs from before the question: it never lasts longer here than there
        try:
            answer = await self._report(report)
        except Exception as error:  # the scheduler may be away; the next beat tells it again
            log.warning("backend.unheard", host=self.host, error=f"{type(error).__name__}: {error}")
        else:
            self._note_lease(answer, asked_at)

    def _note_lease(self, answer: LeaseAnswer, asked_at: float) -> None:
        """Raises LeaseLostError when somebody else has the lease that this process had."""
        before, self._lease_epoch = self._lease_epoch, answer.epoch
        if answer.epoch is not None:
            if answer.epoch != before:
                log.info("backend.lease", host=self.host, epoch=answer.epoch, seconds=answer.seconds)
            self._lease_ends = asked_at + answer.seconds
            return
        self._lease_ends = 0.0
        if answer.holder is None:
            return
        if before is not None:
            self._closed_because = "another process acts for it now"
            log.critical("backend.lease_lost", host=self.host, epoch=before, holder=answer.holder)
            raise LeaseLostError(f"backend {self.host}: {answer.holder} acts for it now; this process must end")
        if self._waits_for != answer.holder:
            log.warning("backend.waits", host=self.host, holder=answer.holder)
        self._waits_for = answer.holder

    def _reachable(self, pool: PoolReport) -> PoolReport:
        """The pool as its consumers reach it: by the exports, where there are any."""
        protocols = self._exporting.protocols
        if not protocols:
            return pool
        can = replace(
            pool.capabilities,
            storage_protocol=protocols[0],
            protocols=protocols,
            multiattach=True,
            extra={**pool.capabilities.extra, **self._exporting.network},
        )
        return replace(pool, capabilities=can)


def _defect(error: Exception) -> str:
    return f"an unexpected error of the driver: {type(error).__name__}"
