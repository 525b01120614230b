"""The operator's side of the API in process: real dispatch, real SQLite, three callers, a clock that stands still."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import insert

from cluster.caller import Caller
from cluster.outside import Outside
from cluster.settings import Settings
from cluster.store.open import migrate, open_store
from cluster.volume_types.intents import ensure_default_type
from cluster.volumes.records import Volume
from serve_app.availability_zones.routes import ROUTES as ZONES
from serve_app.default_types.routes import ROUTES as DEFAULT_TYPES
from serve_app.extensions.routes import ROUTES as EXTENSIONS
from serve_app.limits.routes import ROUTES as LIMITS
from serve_app.messages.routes import ROUTES as MESSAGES
from serve_app.pools.routes import ROUTES as POOLS
from serve_app.qos_specs.routes import ROUTES as QOS_SPECS
from serve_app.quota_classes.routes import ROUTES as CLASSES
from serve_app.quotas.routes import ROUTES as QUOTAS
from serve_app.resource_filters.routes import ROUTES as FILTERS
from serve_app.services.routes import ROUTES as SERVICES
from serve_app.volume_types.routes import ACTIONS as TYPE_ACTIONS
from serve_app.volume_types.routes import ROUTES as TYPES
from serve_app.wire.dispatch import Dispatch
from serve_app.wire.route import Room
from serve_app.wire.site import Site

ROUTES = (
    *(*TYPES, *DEFAULT_TYPES, *SERVICES, *POOLS, *LIMITS, *QUOTAS, *CLASSES),
    *(*ZONES, *EXTENSIONS, *MESSAGES, *FILTERS, *QOS_SPECS),
)
PROJECTS = {"admin": "a" * 32, "member": "b" * 32, "reader": "b" * 32, "stranger": "c" * 32}


class Tokens:
    """The token is the name of the role."""

    async def authenticate(
        self, headers: Mapping[str, str], request_id: str, global_request_id: str | None = None
    ) -> Caller:
        name = headers["x-auth-token"]
        role = "member" if name == "stranger" else name
        return Caller(
            user_id=name,
            project_id=PROJECTS[name],
            request_id=request_id,
            roles=frozenset((role,)),
            is_admin=role == "admin",
            global_request_id=global_request_id,
        )

    async def close(self) -> None: ...


@dataclass
class Clock:
    seconds: float = 1_800_000_000.0

    def __call__(self) -> float:
        self.seconds += 0.001  # so that times order what was written
        return self.seconds


@dataclass
class Api:
    """Requests as somebody, at some microversion; the answer's status and body."""

    room: Room
    client: httpx.AsyncClient
    clock: Clock = field(default_factory=Clock)

    async def call(
        self, method: str, path: str, body: Any = None, *, who: str = "admin", minor: int = 71
    ) -> tuple[int, Any]:
        headers = {"X-Auth-Token": who, "OpenStack-API-Version": f"volume 3.{minor}"}
        answer = await self.client.request(method, f"/v3/{PROJECTS[who]}{path}", json=body, headers=headers)
        return answer.status_code, answer.json() if answer.content else None

    async def get(self, path: str, **how: Any) -> tuple[int, Any]:
        return await self.call("GET", path, **how)

    async def post(self, path: str, body: Any, **how: Any) -> tuple[int, Any]:
        return await self.call("POST", path, body, **how)

    async def put(self, path: str, body: Any, **how: Any) -> tuple[int, Any]:
        return await self.call("PUT", path, body, **how)

    async def delete(self, path: str, **how: Any) -> tuple[int, Any]:
        return await self.call("DELETE", path, **how)

    async def make_type(self, name: str, **more: Any) -> str:
        status, body = await self.post("/types", {"volume_type": {"name": name, **more}})
        assert status == 200, body
        return str(body["volume_type"]["id"])

    async def make_volume(self, type_id: str, *, project: str = PROJECTS["member"], size_gib: int = 3) -> None:
        row: dict[str, Any] = {
            "id": self.room.outside.new_id(),
            "project_id": project,
            "user_id": "u",
            "size_gib": size_gib,
            "status": "available",
            "attach_status": "detached",
            "volume_type_id": type_id,
            "bootable": False,
            "encrypted": False,
            "multiattach": False,
            "user_metadata": {},
            "admin_metadata": {},
            "consumes_quota": True,
            "created_at": self.room.outside.now(),
        }
        await self.room.store.write(lambda db: db.execute(insert(Volume).values(**row)))


@pytest.fixture
def database(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'pumice.db'}"


@pytest.fixture
async def api(database: str, tmp_path: Path) -> AsyncIterator[Api]:
    await migrate(database)
    store, clock = open_store(database), Clock()
    settings = Settings(state_dir=tmp_path, identity={"mode": "noauth"}, public_url="http://api.test")
    room = Room(store=store, settings=settings, outside=Outside(seconds=clock), ring=lambda: None)
    await ensure_default_type(store, settings, room.outside)
    site = Site(room, {"v3": Dispatch(room, Tokens(), ROUTES, TYPE_ACTIONS)})
    transport = httpx.ASGITransport(app=site)
    async with httpx.AsyncClient(transport=transport, base_url="http://api.test") as client:
        yield Api(room, client, clock)
    await store.close()
