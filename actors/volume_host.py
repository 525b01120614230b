"""One backend on one host: it opens the storage, reports its pools, and runs the driver for the conductor.

The plain class behind the volume actor; no Ray. Holds no records: all it knows comes with the calls.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import structlog

from cluster.services.report import ServiceReport
from drivers.protocols import Backend, Clones, Fences, Snapshots
from drivers.vocabulary import (
    BackendUnavailableError,
    InventoryItem,
    StaleEpochError,
    StorageError,
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


class VolumeHost:
    """`host` is `host@backend`; `report` delivers a heartbeat and may fail; times are seconds."""

    def __init__(
        self,
        host: str,
        backend: Backend,
        *,
        availability_zone: str,
        node_labels: Mapping[str, str],
        heartbeat: float,
        report: Callable[[ServiceReport], Awaitable[None]],
    ) -> None:
        self.host = host
        self._backend = backend
        self._zone = availability_zone
        self._labels = dict(node_labels)
        self._heartbeat = heartbeat
        self._report = report
        self._closed_because: str | None = "it has not been opened yet"
        self._epoch = 0

    async def serve(self) -> None:
        """Open the storage (again and again if need be) and report, until cancelled."""
        try:
            while True:
                await self.beat()
                await asyncio.sleep(self._heartbeat)
        finally:
            await self._backend.close()

    async def call(
        self, method: str, pool: str, args: tuple[Any, ...], *, epoch: int, request_id: str, resource_id: str
    ) -> Any:
        """Run one driver call. Raises `StorageError`s only: BackendUnavailableError while the storage is closed,
        StaleEpochError for a conductor that was replaced, UnsupportedError where the driver has no such power."""
        await self._admit(epoch)
        protocol = _CALLS.get(method)
        if protocol is None or not isinstance(self._backend, protocol):
            raise UnsupportedError(f"backend {self.host} cannot do {method}")
        with structlog.contextvars.bound_contextvars(request_id=request_id, resource_id=resource_id):
            try:
                observed = await getattr(self._backend, method)(pool, *args)
            except StorageError as error:
                log.warning("driver.refused", method=method, pool=pool, error=f"{type(error).__name__}: {error}")
                raise
            log.info("driver.done", method=method, pool=pool)
            return observed

    async def inventory(self, *, epoch: int) -> list[InventoryItem]:
        """Every whole object of the backend. Raises as `call` does."""
        await self._admit(epoch)
        return await self._backend.inventory()

    async def _admit(self, epoch: int) -> None:
        """Let a call of the conductor's `epoch` through; the storage remembers the latest where it can."""
        if epoch < self._epoch:
            raise StaleEpochError(f"{self.host}: the conductor of epoch {epoch} was replaced by that of {self._epoch}")
        if self._closed_because is not None:
            raise BackendUnavailableError(f"backend {self.host} is not open: {self._closed_because}")
        if epoch > self._epoch:
            if isinstance(self._backend, Fences):
                await self._backend.admit(epoch)
            self._epoch = max(epoch, self._epoch)

    async def _open(self) -> None:
        try:
            await self._backend.open()
            self._closed_because = None
            log.info("backend.open", host=self.host)
        except StorageError as error:
            if self._closed_because != str(error):
                log.warning("backend.closed", host=self.host, error=str(error))
            self._closed_because = str(error)

    async def beat(self) -> None:
        """Open the storage if it is not, measure the pools, report."""
        if self._closed_because is not None:
            await self._open()
        try:
            pools = await self._backend.pools() if self._closed_because is None else []
        except StorageError as error:
            # The storage went away under us (unmounted, failed): close, and let the next beat open it again.
            log.warning("backend.lost", host=self.host, error=str(error))
            self._closed_because, pools = str(error), []
            await self._backend.close()
        report = ServiceReport(
            host=self.host,
            availability_zone=self._zone,
            node_labels=self._labels,
            backend_up=self._closed_because is None,
            pools=pools,
        )
        try:
            await self._report(report)
        except Exception as error:  # the scheduler may be away; the next beat tells it again
            log.warning("backend.unheard", host=self.host, error=f"{type(error).__name__}: {error}")
