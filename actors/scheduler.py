"""The scheduler actor: the desk, reached by conductor and volume actors.

A process that looks an actor up imports the actor's module, for Ray wants the class. So nothing is imported here that
volume actors can do without (SQL, 30 MB): the constructor does that.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from actors.liveness import beat, or_end, watch

if TYPE_CHECKING:
    from cluster.scheduling.request import PlacementRequest
    from cluster.services.report import LeaseAnswer, ServiceReport


class SchedulerActor:
    """`settings_path` is the file that `pumice up` wrote."""

    async def __init__(self, settings_path: str) -> None:  # type: ignore[misc]
        with or_end("scheduler"):
            from cluster import logs
            from cluster.outside import Outside
            from cluster.scheduling.desk import Desk
            from cluster.settings_file import load_effective
            from cluster.store.open import open_store

            settings = load_effective(Path(settings_path))
            logs.configure(settings.state_dir / "logs", "scheduler")
            self._desk = Desk(open_store(settings.database), Outside(), settings)
            self._loops = [watch(self._desk.serve(), "scheduler"), watch(beat(settings.state_dir), "beat")]

    async def place(self, request: PlacementRequest) -> str:
        """See Desk.place."""
        return await self._desk.place(request)

    async def release(self, volume_id: str) -> None:
        """See Desk.release."""
        self._desk.release(volume_id)

    async def resize(self, volume_id: str, size_gib: int) -> None:
        """See Desk.resize."""
        self._desk.resize(volume_id, size_gib)

    async def report(self, report: ServiceReport) -> LeaseAnswer:
        """A volume actor's heartbeat; the answer is its lease. See Desk.report."""
        return await self._desk.report(report)
