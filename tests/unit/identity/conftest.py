"""The embedded identity in process: the whole application over SQLite, a clock that tests move, cheap hashing."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
from argon2 import PasswordHasher

from cluster.outside import Outside
from cluster.settings import Settings
from cluster.store.open import migrate, open_store
from cluster.store.seam import Store
from serve_app.app import build
from serve_app.identity.bootstrap import AdminCredentials, bootstrap
from serve_app.identity.embedded import EmbeddedAuthenticator
from serve_app.identity.passwords import Passwords
from serve_app.identity.signing_key import ensure_signing_key
from serve_app.identity.tokens import TokenSigner
from serve_app.wire.route import Room

V3 = "/identity/v3"


@dataclass
class Clock:
    """Seconds that pass when a test says so."""

    now: float = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Cloud:
    """Two replicas of the API over one store, as an administrator of them sees it."""

    store: Store
    settings: Settings
    outside: Outside
    clock: Clock
    credentials: AdminCredentials
    first: httpx.AsyncClient
    second: httpx.AsyncClient
    tokens: dict[str, str] = field(default_factory=dict)

    async def login(self, user: str, password: str, project: str | None = None, **scope: Any) -> httpx.Response:
        """What `POST /auth/tokens` answers."""
        named = {"name": user, "domain": {"id": "default"}, "password": password}
        auth: dict[str, Any] = {"identity": {"methods": ["password"], "password": {"user": named}}}
        if project is not None:
            scope = {"project": {"name": project, "domain": {"name": "Default"}}}
        if scope:
            auth["scope"] = scope
        return await self.first.post(f"{V3}/auth/tokens", json={"auth": auth})

    async def token(self, user: str = "admin", project: str | None = None) -> str:
        """A token of the user, made once."""
        if user not in self.tokens:
            password = self.credentials.password if user == "admin" else f"{user}-secret"
            answer = await self.login(user, password, project or ("admin" if user == "admin" else "demo"))
            assert answer.status_code == 201, answer.text
            self.tokens[user] = answer.headers["X-Subject-Token"]
        return self.tokens[user]

    async def call(self, method: str, path: str, body: Any = None, user: str = "admin") -> httpx.Response:
        """A request to the identity as `user`."""
        return await self.first.request(
            method, f"{V3}{path}", json=body, headers={"X-Auth-Token": await self.token(user)}
        )

    async def add(self, user: str, *roles: str) -> str:
        """A user with roles in the project `demo`; its id."""
        found = (await self.call("GET", "/projects?name=demo")).json()["projects"]
        if not found:
            found = [(await self.call("POST", "/projects", {"project": {"name": "demo"}})).json()["project"]]
        made = await self.call("POST", "/users", {"user": {"name": user, "password": f"{user}-secret"}})
        user_id = str(made.json()["user"]["id"])
        ids = {role["name"]: role["id"] for role in (await self.call("GET", "/roles")).json()["roles"]}
        for role in roles:
            granted = await self.call("PUT", f"/projects/{found[0]['id']}/users/{user_id}/roles/{ids[role]}")
            assert granted.status_code == 204
        return user_id


@pytest.fixture
async def cloud(tmp_path: Path) -> AsyncIterator[Cloud]:
    settings = Settings(state_dir=tmp_path)
    await migrate(settings.database)
    store = open_store(settings.database)
    clock = Clock()
    outside = Outside(seconds=clock)
    credentials = await bootstrap(store, settings, outside)
    assert credentials is not None
    hasher = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
    clients = []
    for _ in range(2):
        signer = TokenSigner(ensure_signing_key(tmp_path))
        authenticator = EmbeddedAuthenticator(store, outside, signer, "http://k/v3", clock)
        app = build(Room(store, settings, outside, lambda: None), authenticator, passwords=Passwords(hasher, 0.0))
        transport = httpx.ASGITransport(app)  # type: ignore[arg-type]
        clients.append(httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8776"))
    yield Cloud(store, settings, outside, clock, credentials, *clients)
    for client in clients:
        await client.aclose()
    await store.close()
