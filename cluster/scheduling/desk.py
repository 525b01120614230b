"""The scheduler with its records: it takes heartbeats in, keeps services and pools written down, and places.

Its memory is made anew from the records at start and every `timing.reconcile` seconds, so that what a lost call left
behind in it does not last.
"""

from __future__ import annotations

import asyncio
from typing import cast

import structlog
from sqlalchemy import Connection, Table, select

from cluster.journal.ledger import hurry
from cluster.outside import Outside
from cluster.scheduling.decide import NoPlacementError
from cluster.scheduling.ledger import Ledger
from cluster.scheduling.request import PlacementRequest
from cluster.scheduling.scheduler import Scheduler
from cluster.scheduling.settings import SchedulingSettings, WeigherSettings
from cluster.services import leases
from cluster.services.intents import report_pools, report_service
from cluster.services.queries import works
from cluster.services.records import Service
from cluster.services.report import LeaseAnswer, ServiceReport
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
        self._beat_at: float | None = None  # monotonic, of the last beat that was written down
        self._held_up_at: float | None = None
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

    async def report(self, report: ServiceReport) -> LeaseAnswer:
        """A heartbeat: give or renew the lease, remember the pools, and write service and pools down for the API, all
        in one transaction. Of a process that may not act for the backend, because another has the lease, nothing is
        remembered. Raises StoreError; then the lease is as it was."""
        life = self._settings.timing.backend_lease
        other = await self._store.read(lambda db: leases.is_others(db, report, self._outside.seconds()))
        if other is not None:
            return LeaseAnswer(None, life, other)
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

        def write(db: Connection) -> LeaseAnswer:
            answer = leases.answer(db, report, self._outside.seconds(), life)
            if answer.holder is not None:
                return answer  # it was given away since it was looked at
            now = self._outside.seconds()
            if report.backend_up and works(db, report.host, now - self._settings.timing.service_down) is False:
                # It was away for a while: what waits for it has come to wait ever longer between two tries.
                hurried = hurry(db, now)
                log.info("scheduler.service_back", host=report.host, hurried=hurried)
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
            return answer

        answer = await self._store.write(write)
        if first:
            log.info("scheduler.service", host=report.host, pools=sorted(stats), backend_up=report.backend_up)
        return answer

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
                raise RetryableError(
                    f"the scheduler has just started or was held up; waiting for {', '.join(unheard)}"
                ) from None
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
            silent_here = not up and not disabled and self._was_held_up()
            if silent_here or ((up or (starting and not disabled)) and host not in self._reported):
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
        now = self._outside.monotonic()
        if self._beat_at is not None and now - self._beat_at > settings.timing.service_down / 2:
            self._held_up_at = now
        self._beat_at = now

    def _was_held_up(self) -> bool:
        """Whether this process (it was stopped) or its records (the database was away) are or were just out of action:
        then the silence of a service says nothing about the service."""
        if self._beat_at is None:
            return False
        now, life = self._outside.monotonic(), self._settings.timing.service_down
        return now - self._beat_at > life / 2 or (self._held_up_at is not None and now - self._held_up_at <= life)

    async def _rebuild(self) -> None:
        rows = await self._store.read(
            lambda db: db.execute(
                select(_VOLUME.c.id, _VOLUME.c.host, _VOLUME.c.size_gib, _VOLUME.c.target_size_gib).where(
                    _VOLUME.c.host.is_not(None)
                )
            ).all()
        )
        self._scheduler.rebuild((row.id, row.host, max(row.size_gib, row.target_size_gib or 0)) for row in rows)
