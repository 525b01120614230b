"""The scheduler with its records: it takes heartbeats in, keeps services and pools written down, and places.

Its memory is made anew from the records at start and every `timing.reconcile` seconds, so that what a lost call left
behind in it does not last.
"""

from __future__ import annotations

import asyncio
from typing import cast

import structlog
from sqlalchemy import Connection, Table, select

from cluster.outside import Outside
from cluster.scheduling.decide import NoPlacementError
from cluster.scheduling.ledger import Ledger
from cluster.scheduling.request import PlacementRequest
from cluster.scheduling.scheduler import Scheduler
from cluster.scheduling.settings import SchedulingSettings, WeigherSettings
from cluster.services.intents import report_pools, report_service
from cluster.services.records import Service
from cluster.services.report import ServiceReport
from cluster.settings import Settings
from cluster.store.seam import Store, StoreError
from cluster.volumes.records import Volume
from drivers.vocabulary import RetryableError

VOLUME_BINARY = "cinder-volume"
SCHEDULER_BINARY = "cinder-scheduler"
_SERVICE = cast(Table, Service.__table__)  # type: ignore[attr-defined]
_VOLUME = cast(Table, Volume.__table__)  # type: ignore[attr-defined]
_STATES_SECONDS = 0.5  # how long the services' states may be remembered
_START_SECONDS = 60.0  # how long after the start of everything a volume service may need until it is heard
_START_PAUSE_SECONDS = 1.0  # between two tries to read the records at the start
log = structlog.get_logger()


class Desk:
    """Where volumes are placed. One runs in a cluster; a second would only reserve twice in its own memory."""

    def __init__(self, store: Store, outside: Outside, settings: Settings) -> None:
        weights = settings.scheduler
        self._store, self._outside, self._settings = store, outside, settings
        self._scheduler = Scheduler(
            Ledger(),
            SchedulingSettings(
                weighers=WeigherSettings.of_multipliers(
                    capacity=weights.capacity_weight_multiplier,
                    allocated_capacity=weights.allocated_capacity_weight_multiplier,
                    volume_number=weights.volume_number_multiplier,
                    goodness=weights.goodness_multiplier,
                )
            ),
            outside.monotonic,
            outside.random,
        )
        self._reported: set[str] = set()
        self._looked_at = 0.0
        self._began = outside.seconds()
        self._started = False

    async def start(self) -> None:
        """Read the records; until that has succeeded, nothing is placed. Raises StoreError."""
        await self._rebuild()
        self._started = True

    async def serve(self) -> None:
        """Start if that has not been done (again and again if need be), beat its own heart and recount, until
        cancelled."""
        timing = self._settings.timing
        rebuilt = self._outside.monotonic()
        while True:
            try:
                if not self._started:
                    await self.start()
                    rebuilt = self._outside.monotonic()
                await self._beat()
                if self._outside.monotonic() - rebuilt >= timing.reconcile:
                    await self._rebuild()
                    rebuilt = self._outside.monotonic()
            except StoreError as error:
                log.warning("scheduler.store", error=str(error))
            await asyncio.sleep(timing.heartbeat if self._started else min(_START_PAUSE_SECONDS, timing.heartbeat))

    async def report(self, report: ServiceReport) -> None:
        """A heartbeat: remember the pools, and write service and pools down for the API."""
        self._scheduler.report(
            report.host,
            report.pools,
            availability_zone=report.availability_zone,
            node_labels=report.node_labels,
            reported_at=self._outside.now(),
        )
        first = report.host not in self._reported
        self._reported.add(report.host)
        stats = {pool.host: pool.stats() for pool in self._scheduler.pools_view() if pool.service == report.host}

        def write(db: Connection) -> None:
            report_service(
                db,
                self._outside,
                binary=VOLUME_BINARY,
                host=report.host,
                availability_zone=report.availability_zone,
                node_labels=report.node_labels,
                backend_state="up" if report.backend_up else "down",
            )
            report_pools(db, self._outside, report.host, stats)

        await self._store.write(write)
        if first:
            log.info("scheduler.service", host=report.host, pools=sorted(stats), backend_up=report.backend_up)

    async def place(self, request: PlacementRequest) -> str:
        """The pool for a volume, with its room reserved. Raises NoPlacementError; RetryableError until the records
        were read, and while a service that was alive a moment ago, or at all just after the start, has not reported
        yet: a refusal would be premature."""
        if not self._started:
            raise RetryableError("the scheduler is still reading its records")
        unheard = await self._services()
        try:
            return self._scheduler.place(request).host
        except NoPlacementError:
            if unheard:
                raise RetryableError(f"the scheduler has just started; waiting for {', '.join(unheard)}") from None
            raise

    def release(self, volume_id: str) -> None:
        """Give the reservation of the volume back."""
        self._scheduler.release(volume_id)

    def resize(self, volume_id: str, size_gib: int) -> None:
        """Set the reservation of the volume."""
        self._scheduler.resize(volume_id, size_gib)

    async def _services(self) -> list[str]:
        """Bring the services' states up to date; return those that live by the records, or may be starting as this
        process is, but were not heard here."""
        now = self._outside.seconds()
        if now - self._looked_at < _STATES_SECONDS and self._reported:
            return []
        rows = await self._store.read(
            lambda db: db.execute(
                select(_SERVICE.c.host, _SERVICE.c.disabled, _SERVICE.c.heartbeat_at).where(
                    _SERVICE.c.binary == VOLUME_BINARY
                )
            ).all()
        )
        unheard, starting = [], now - self._began <= _START_SECONDS
        for host, disabled, heartbeat_at in rows:
            up = now - heartbeat_at <= self._settings.timing.service_down
            self._scheduler.set_service(host, up=up, enabled=not disabled)
            if (up or (starting and not disabled)) and host not in self._reported:
                unheard.append(host)
        if not unheard:
            self._looked_at = now
        return unheard

    async def _beat(self) -> None:
        settings = self._settings
        await self._store.write(
            lambda db: report_service(
                db,
                self._outside,
                binary=SCHEDULER_BINARY,
                host=settings.host_name,
                availability_zone=settings.availability_zone,
                node_labels={},
                backend_state=None,
            )
        )

    async def _rebuild(self) -> None:
        rows = await self._store.read(
            lambda db: db.execute(
                select(_VOLUME.c.id, _VOLUME.c.host, _VOLUME.c.size_gib, _VOLUME.c.target_size_gib).where(
                    _VOLUME.c.host.is_not(None)
                )
            ).all()
        )
        self._scheduler.rebuild((row.id, row.host, max(row.size_gib, row.target_size_gib or 0)) for row in rows)
