"""The API in one process on a real SQLite file, with a client per caller. No conductor runs: what it would do, a test
writes into the rows itself."""

from __future__ import annotations

import itertools
import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from sqlalchemy import Connection, Table, delete, insert, select, update

from cluster.caller import Caller
from cluster.journal.records import Operation
from cluster.outside import Outside, stamp
from cluster.quotas.records import QuotaLimit
from cluster.services.records import Service
from cluster.settings import Settings
from cluster.snapshots.records import Snapshot
from cluster.store.open import migrate, open_store
from cluster.store.seam import Store
from cluster.volume_types.records import DefaultType, VolumeType, VolumeTypeAccess
from cluster.volumes.records import Volume
from serve_app.attachments import routes as attachment_routes
from serve_app.snapshots import routes as snapshot_routes
from serve_app.volumes import routes as volume_routes
from serve_app.wire.dispatch import Dispatch
from serve_app.wire.faults import Unauthorized
from serve_app.wire.route import Room, Servers
from serve_app.wire.site import Site

PROJECT, OTHER = "a" * 32, "b" * 32
DEFAULT_TYPE = "00000000-0000-4000-8000-000000000001"
ABSENT = "99999999-9999-4999-8999-999999999999"
POOL = "h1@reflink#p1"
CALLERS = {
    "member": Caller("user-m", PROJECT, "req-1", frozenset({"member", "reader"})),
    "reader": Caller("user-r", PROJECT, "req-1", frozenset({"reader"})),
    "other": Caller("user-o", OTHER, "req-1", frozenset({"member", "reader"})),
    "admin": Caller("user-a", PROJECT, "req-1", frozenset({"admin", "member", "reader"}), is_admin=True),
    "service": Caller("user-m", PROJECT, "req-1", frozenset({"member", "reader", "service"}), is_service=True),
}


class ByName:
    """Takes the token for a name of `CALLERS`."""

    async def authenticate(
        self, headers: Mapping[str, str], request_id: str, global_request_id: str | None = None
    ) -> Caller:
        name = headers.get("x-auth-token", "")
        if name not in CALLERS:
            raise Unauthorized("no such caller")
        return CALLERS[name]

    async def close(self) -> None:
        return None


@dataclass
class Bench:
    """The API (`call`) and what is behind it. `ring` wakes who does the work, `servers` is Nova's word."""

    store: Store
    settings: Settings
    outside: Outside
    rings: list[int] = field(default_factory=list)
    ring: Callable[[], None] = lambda: None
    servers: Servers | None = None

    def __post_init__(self) -> None:
        def ring() -> None:
            self.rings.append(1)
            self.ring()

        room = Room(self.store, self.settings, self.outside, ring, self.servers)
        routes = (*volume_routes.ROUTES, *snapshot_routes.ROUTES, *attachment_routes.ROUTES)
        actions = (*volume_routes.ACTIONS, *snapshot_routes.ACTIONS, *attachment_routes.ACTIONS)
        dispatch = Dispatch(room, ByName(), routes, actions)
        site = Site(room, {"v3": dispatch})
        self._client = httpx.AsyncClient(transport=httpx.ASGITransport(site), base_url="http://127.0.0.1:8776")

    async def call(
        self, method: str, path: str, body: Any = None, *, at: int = 0, by: str = "member", **headers: str
    ) -> httpx.Response:
        """One request to `/v3/<project of the caller><path>` at microversion 3.`at`."""
        sent = {"x-auth-token": by, "openstack-api-version": f"volume 3.{at}"}
        sent |= {name.replace("_", "-"): value for name, value in headers.items()}
        content = None if body is None else json.dumps(body)
        url = f"/v3/{CALLERS[by].project_id}{path}"
        return await self._client.request(
            method, url, content=content, headers=sent | {"content-type": "application/json"}
        )

    async def get(self, path: str, **options: Any) -> Any:
        """The body of a GET that must succeed."""
        answer = await self.call("GET", path, **options)
        assert answer.status_code == 200, answer.text
        return answer.json()

    async def act(self, volume_id: str, key: str, value: Any, **options: Any) -> httpx.Response:
        """A volume's action."""
        return await self.call("POST", f"/volumes/{volume_id}/action", {key: value}, **options)

    async def volume(self, **values: Any) -> str:
        """Write a volume that stands; give its id."""
        volume_id = values.pop("id", None) or self.outside.new_id()
        row: dict[str, Any] = {
            "id": volume_id,
            "project_id": PROJECT,
            "user_id": "user-m",
            "size_gib": 1,
            "status": "available",
            "attach_status": "detached",
            "availability_zone": "nova",
            "host": POOL,
            "volume_type_id": DEFAULT_TYPE,
            "bootable": False,
            "encrypted": False,
            "multiattach": False,
            "user_metadata": {},
            "admin_metadata": {},
            "consumes_quota": True,
            "created_at": self.outside.now(),
        }
        await self.store.write(lambda db: db.execute(insert(Volume).values(**(row | values))))
        return volume_id

    async def snapshot(self, volume_id: str, **values: Any) -> str:
        """Write a snapshot that stands; give its id."""
        snapshot_id = values.pop("id", None) or self.outside.new_id()
        row: dict[str, Any] = {
            "id": snapshot_id,
            "volume_id": volume_id,
            "project_id": PROJECT,
            "user_id": "user-m",
            "size_gib": 1,
            "status": "available",
            "progress": "100%",
            "volume_type_id": DEFAULT_TYPE,
            "user_metadata": {},
            "consumes_quota": True,
            "created_at": self.outside.now(),
        }
        await self.store.write(lambda db: db.execute(insert(Snapshot).values(**(row | values))))
        return snapshot_id

    async def volume_type(self, name: str, **values: Any) -> str:
        """Write a volume type; give its id."""
        row: dict[str, Any] = {"id": self.outside.new_id(), "name": name, "is_public": True, "extra_specs": {}}
        row |= {"created_at": self.outside.now()} | values
        await self.store.write(lambda db: db.execute(insert(VolumeType).values(**row)))
        return str(row["id"])

    async def default_type(self, type_id: str, project_id: str = PROJECT) -> None:
        """Give a project its own default type."""
        values = {"project_id": project_id, "volume_type_id": type_id}
        await self.store.write(lambda db: db.execute(insert(DefaultType).values(**values)))

    async def set_type(self, type_id: str, **values: Any) -> None:
        """Change a volume type."""
        await self.set(VolumeType, type_id, **values)

    async def grant(self, type_id: str, project_id: str) -> None:
        """Let a project use a private type."""
        values = {"volume_type_id": type_id, "project_id": project_id}
        await self.store.write(lambda db: db.execute(insert(VolumeTypeAccess).values(**values)))

    async def limit(self, resource: str, hard_limit: int, project_id: str = PROJECT) -> None:
        """Write a project's own limit (by stored name)."""

        def work(db: Connection) -> None:
            db.execute(
                delete(QuotaLimit).where(QuotaLimit.project_id == project_id, QuotaLimit.resource == resource)  # type: ignore[arg-type]
            )
            db.execute(insert(QuotaLimit).values(project_id=project_id, resource=resource, hard_limit=hard_limit))

        await self.store.write(work)

    async def service(self, zone: str, host: str) -> None:
        """Write a volume service down as running."""
        row = {"id": self.outside.new_id(), "binary": "cinder-volume", "host": host, "availability_zone": zone}
        row |= {"disabled": False, "node_labels": {}, "heartbeat_at": 0.0, "created_at": self.outside.now()}
        await self.store.write(lambda db: db.execute(insert(Service).values(**row)))

    async def set(self, table: type, resource_id: str, **values: Any) -> None:
        """Change a row behind the API's back."""
        rows: Table = table.__table__  # type: ignore[attr-defined]
        await self.store.write(lambda db: db.execute(update(rows).where(rows.c.id == resource_id).values(**values)))

    async def row(self, table: type, resource_id: str) -> dict[str, Any] | None:
        """A row as it is, or None."""
        rows: Table = table.__table__  # type: ignore[attr-defined]
        found = await self.store.read(
            lambda db: db.execute(select(rows).where(rows.c.id == resource_id)).mappings().first()
        )
        return dict(found) if found is not None else None

    async def operations(self, resource_id: str) -> list[tuple[str, dict[str, Any]]]:
        """Kind and arguments of the live operations on a resource."""
        rows = Operation.__table__  # type: ignore[attr-defined]
        statement = select(rows.c.kind, rows.c.args).where(rows.c.resource_id == resource_id, rows.c.state == "live")
        return [(kind, args) for kind, args in await self.store.read(lambda db: db.execute(statement).all())]

    async def settle(self, table: type, resource_id: str, **values: Any) -> None:
        """What the conductor does in the end: close the operation, write the row."""
        rows = Operation.__table__  # type: ignore[attr-defined]
        done = update(rows).where(rows.c.resource_id == resource_id).values(state="done")
        await self.store.write(lambda db: db.execute(done))
        await self.set(table, resource_id, **values)


def ticking() -> Outside:
    """Real ids and a clock that moves a second at every look."""
    ticks = itertools.count(1_767_000_000)
    return Outside(seconds=lambda: float(next(ticks)))


async def write_template(directory: Path) -> Path:
    """A database with the schema and the default type, to be copied for each test."""
    path = directory / "template.db"
    await migrate(f"sqlite:///{path}")
    store = open_store(f"sqlite:///{path}")
    values = {"id": DEFAULT_TYPE, "name": "__DEFAULT__", "is_public": True, "extra_specs": {}}
    values["created_at"] = stamp(0)
    table = VolumeType.__table__  # type: ignore[attr-defined]

    def work(db: Connection) -> None:
        db.execute(delete(table))
        db.execute(insert(table).values(**values))

    await store.write(work)
    await store.close()
    return path


def open_bench(template: Path, directory: Path, **settings: Any) -> Bench:
    """A bench on a copy of the template in `directory`."""
    path = directory / "pumice.db"
    shutil.copy(template, path)
    return Bench(open_store(f"sqlite:///{path}"), Settings(state_dir=directory, **settings), ticking())


def message(answer: httpx.Response) -> str:
    """The sentence of a fault."""
    return str(next(iter(answer.json().values()))["message"])
