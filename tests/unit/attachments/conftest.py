"""A cluster in one process with an export in memory, and the intents as the API runs them."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Table, insert, select, update

from actors.in_process import InProcessCluster
from cluster.attachments.records import Attachment, VolumeConnection
from cluster.caller import Caller
from cluster.journal.intents import open_operation
from cluster.journal.records import Operation
from cluster.messages.records import Message
from cluster.settings import BackendSettings, Settings
from cluster.store.open import migrate
from cluster.volumes.records import Volume
from drivers.memory import MemoryStore
from drivers.vocabulary import GIB
from tests.unit.attachments.memory_export import ExportStore, MemoryExport, PathBackend

PROJECT = "a" * 32
CALLER = Caller(user_id="u", project_id=PROJECT, request_id="req-1")
STRANGER = Caller(user_id="s", project_id="b" * 32, request_id="req-2")
ADMIN = Caller(user_id="a", project_id="c" * 32, request_id="req-3", is_admin=True)
SERVICE = "h1@memory"
CONNECTOR = {"host": "node-1", "initiator": "iqn.1993-08.org.debian:01:aa", "ip": "192.0.2.1"}
OTHER = {"host": "node-2", "initiator": "iqn.1993-08.org.debian:01:bb", "ip": "192.0.2.2"}


@dataclass
class Bench:
    """The cluster, its storage and its export."""

    cluster: InProcessCluster
    export: MemoryExport
    made: int = field(default=0)

    @property
    def served(self) -> set[str]:
        """Ids of the connections that the export lets in."""
        return set(self.export.store.served)

    async def run(self, intent: Callable[..., Any], *args: Any, by: Caller = CALLER, **options: Any) -> Any:
        """One transaction of the API."""
        outside = self.cluster.outside
        return await self.cluster.store.write(lambda db: intent(db, outside, by, *args, **options))

    async def settle(self) -> None:
        """Let the conductor do everything, whatever had to wait."""
        await self.set(Operation, not_before=0.0)
        await self.cluster.settle()

    async def volume(self, **values: Any) -> str:
        """A volume that is there; its id."""
        self.made += 1
        volume_id = f"00000000-0000-4000-8000-{self.made:012d}"
        now = self.cluster.outside.now()
        row = {"id": volume_id, "project_id": PROJECT, "user_id": "u", "size_gib": 1, "status": "creating"}
        row |= {"user_metadata": {}, "admin_metadata": {}, "created_at": now, "bootable": False, "encrypted": False}
        row |= {"multiattach": False, "consumes_quota": True, "attach_status": "detached"}
        final = {"status": "available"} | values
        await self.cluster.store.write(lambda db: db.execute(insert(Volume).values(**row)) and None)
        await self.operate("volume.create", volume_id, source=None, hints={})
        await self.cluster.settle()
        await self.set(Volume, volume_id, **final)
        return volume_id

    async def operate(self, kind: str, resource_id: str, **args: Any) -> None:
        """Write an operation down."""
        await self.run(lambda db, outside, by: open_operation(db, outside, by, kind, resource_id, args))

    async def set(self, table: type, resource_id: str | None = None, **values: Any) -> None:
        """Change rows behind everybody's back."""
        rows: Table = table.__table__  # type: ignore[attr-defined]
        statement = update(rows) if resource_id is None else update(rows).where(rows.c.id == resource_id)
        await self.cluster.store.write(lambda db: db.execute(statement.values(**values)) and None)

    async def rows(self, table: type) -> list[Any]:
        """All rows of a table."""
        rows: Table = table.__table__  # type: ignore[attr-defined]
        return await self.cluster.store.read(lambda db: list(db.execute(select(rows)).all()))

    async def row(self, table: type, resource_id: str) -> Any:
        """One row, or None."""
        return next((row for row in await self.rows(table) if row.id == resource_id), None)

    async def states(self, volume_id: str) -> tuple[str, str]:
        """The volume's status and attach status."""
        row = await self.row(Volume, volume_id)
        return row.status, row.attach_status

    async def attachments(self) -> dict[str, str]:
        """Attachment → its status."""
        return {row.id: row.attach_status for row in await self.rows(Attachment)}

    async def connections(self) -> set[str]:
        """Ids of the connections in the records."""
        return {row.id for row in await self.rows(VolumeConnection)}

    async def messages(self) -> list[str]:
        """What users were told."""
        return [row.user_message for row in await self.rows(Message)]


@pytest.fixture(scope="session")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("attachments") / "pumice.db"
    asyncio.run(migrate(f"sqlite:///{path}"))
    return path


@pytest.fixture
async def bench(migrated: Path, tmp_path: Path) -> AsyncIterator[Bench]:
    shutil.copy(migrated, tmp_path / "pumice.db")
    settings = Settings(state_dir=tmp_path, host_name="h1", backends={"memory": BackendSettings(driver="memory")})
    export = MemoryExport(ExportStore())
    backend = PathBackend(store=MemoryStore({"memory": 100 * GIB}))
    async with InProcessCluster(settings, {SERVICE: backend}, exports={SERVICE: [export]}) as cluster:
        yield Bench(cluster, export)
