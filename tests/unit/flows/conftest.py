"""A cluster in one process with the in-memory driver, and requests as the API would write them down."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, insert, select, update

from actors.in_process import InProcessCluster
from cluster.caller import Caller
from cluster.journal.intents import open_operation
from cluster.journal.records import Operation
from cluster.messages.records import Message
from cluster.settings import BackendSettings, Settings
from cluster.snapshots.records import Snapshot
from cluster.volumes.records import Volume
from drivers.memory import MemoryBackend
from drivers.vocabulary import GIB

CALLER = Caller(user_id="u", project_id="p", request_id="req-1")
SERVICE = "h1@memory"
CRASHES = pytest.StashKey[str]()
pytest.register_assert_rewrite("tests.unit.flows.crash_invariants")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Say how many crash points there were, when they were counted."""
    if CRASHES in config.stash:
        terminalreporter.write_line(config.stash[CRASHES])


@dataclass
class Bench:
    """The cluster and its one backend."""

    cluster: InProcessCluster
    backend: MemoryBackend

    async def create(self, volume_id: str, size_gib: int = 1, source: Any = None, **values: Any) -> None:
        """Write a create down as the API does."""
        outside = self.cluster.outside

        def work(db: Connection) -> None:
            db.execute(insert(Volume).values(**self._row(volume_id, size_gib=size_gib, status="creating", **values)))
            open_operation(db, outside, CALLER, "volume.create", volume_id, {"source": source, "hints": {}})

        await self.cluster.store.write(work)

    def _row(self, volume_id: str, **values: Any) -> dict[str, Any]:
        row = {"id": volume_id, "project_id": "p", "user_id": "u", "size_gib": 1, "status": "available"}
        row |= {"user_metadata": {}, "admin_metadata": {}, "created_at": self.cluster.outside.now(), "bootable": False}
        row |= {"encrypted": False, "multiattach": False, "consumes_quota": True, "attach_status": "detached"}
        return row | values

    async def create_row(self, volume_id: str, **values: Any) -> None:
        """Write a row without an operation, on the one backend unless said otherwise."""
        values = {"host": "h1@memory#memory", **values}
        await self.cluster.store.write(
            lambda db: db.execute(insert(Volume).values(**self._row(volume_id, **values))) and None
        )

    async def snapshot(self, snapshot_id: str, volume_id: str, size_gib: int = 1) -> None:
        """Write a snapshot's create down as the API does."""
        outside = self.cluster.outside

        def work(db: Connection) -> None:
            row = {"id": snapshot_id, "volume_id": volume_id, "project_id": "p", "user_id": "u", "size_gib": size_gib}
            row |= {"status": "creating", "user_metadata": {}, "consumes_quota": True, "created_at": outside.now()}
            db.execute(insert(Snapshot).values(**row))
            open_operation(db, outside, CALLER, "snapshot.create", snapshot_id)

        await self.cluster.store.write(work)

    async def operate(self, kind: str, resource_id: str, **args: Any) -> None:
        """Write any other operation down."""
        await self.cluster.store.write(
            lambda db: open_operation(db, self.cluster.outside, CALLER, kind, resource_id, args)
        )

    async def make_due(self) -> None:
        """Let the waiting time of every operation be over."""
        await self.cluster.store.write(lambda db: db.execute(update(Operation).values(not_before=0.0)) and None)

    async def volume(self, volume_id: str) -> Any:
        """The volume's row, or None."""
        return await self.cluster.store.read(
            lambda db: db.execute(select(Volume.__table__).where(Volume.id == volume_id)).first()
        )

    async def rows(self, table: type) -> list[Any]:
        """All rows of a table."""
        return await self.cluster.store.read(lambda db: list(db.execute(select(table.__table__)).all()))

    async def messages(self) -> list[str]:
        """What users were told."""
        return [row.user_message for row in await self.rows(Message)]

    async def states(self) -> dict[str, str]:
        """Operation kind and resource → state."""
        return {f"{row.kind} {row.resource_id}": row.state for row in await self.rows(Operation)}

    async def objects(self) -> set[tuple[str, str, int]]:
        """(kind, id, GiB) of what the backend holds."""
        return {(item.kind.value, item.id, item.size_bytes // GIB) for item in await self.backend.inventory()}


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Settings with the in-memory driver."""
    return Settings(state_dir=tmp_path, host_name="h1", backends={"memory": BackendSettings(driver="memory")})


@pytest.fixture
async def bench(settings: Settings) -> AsyncIterator[Bench]:
    """A running cluster."""
    backend = MemoryBackend({"memory": 100 * GIB})
    async with InProcessCluster(settings, {SERVICE: backend}) as cluster:
        yield Bench(cluster, backend)


Uuid = Callable[[int], str]


@pytest.fixture
def uuid() -> Uuid:
    """Small readable ids."""
    return lambda number: f"00000000-0000-4000-8000-{number:012d}"
