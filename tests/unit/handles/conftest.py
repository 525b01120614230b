"""Handles over the whole application and a cluster in one process: what Ray would carry is carried by an await."""

from __future__ import annotations

import asyncio
import pickle
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import pytest
from argon2 import PasswordHasher

from actors.asgi import answer_of
from actors.handles.asynchronous import AsyncClient
from actors.handles.session import Login, Session
from actors.handles.transport import Answer
from actors.in_process import InProcessCluster
from cluster.settings import BackendSettings, Settings
from cluster.volume_types.intents import ensure_default_type
from drivers.memory import MemoryBackend
from drivers.vocabulary import GIB
from serve_app.app import build
from serve_app.identity.bootstrap import AdminCredentials, bootstrap
from serve_app.identity.embedded import EmbeddedAuthenticator
from serve_app.identity.passwords import Passwords
from serve_app.identity.signing_key import ensure_signing_key
from serve_app.identity.tokens import TokenSigner
from serve_app.wire.exchange import App
from serve_app.wire.route import Room

T = TypeVar("T")
_SITES: dict[str, App] = {}


class NearTransport:
    """Asks the application of this process. Pickled, it finds the same one again."""

    def __init__(self, name: str) -> None:
        self._name = name

    async def ask(self, method: str, path: str, headers: Mapping[str, str], content: bytes) -> Answer:
        """See Transport."""
        return Answer(*await answer_of(_SITES[self._name], method, path, headers, content))


@dataclass
class Near:
    """An instance, its administrator, and what its one backend holds."""

    name: str
    cluster: InProcessCluster
    backend: MemoryBackend
    credentials: AdminCredentials

    def client(self, login: Login | None = None) -> AsyncClient:
        """A client as a program of the cluster, or as somebody."""
        return AsyncClient(Session(NearTransport(self.name), login or Login()))

    def login(self) -> Login:
        """The administrator's."""
        return Login("admin", self.credentials.password, "admin")


async def _drive(cluster: InProcessCluster) -> None:
    while True:
        await cluster.settle()
        await asyncio.sleep(0.01)


@pytest.fixture
async def near(tmp_path: Path) -> AsyncIterator[Near]:
    backends = {"memory": BackendSettings(driver="memory")}
    settings = Settings(state_dir=tmp_path, host_name="h1", backends=backends)
    backend = MemoryBackend({"memory": 100 * GIB})
    async with InProcessCluster(settings, {"h1@memory": backend}) as cluster:
        credentials = await bootstrap(cluster.store, settings, cluster.outside)
        assert credentials is not None
        await ensure_default_type(cluster.store, settings, cluster.outside)
        room = Room(store=cluster.store, settings=settings, outside=cluster.outside, ring=lambda: None)
        signer = TokenSigner(ensure_signing_key(tmp_path))
        authenticator = EmbeddedAuthenticator(cluster.store, cluster.outside, signer, "http://localhost/identity/v3")
        cheap = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
        _SITES[str(tmp_path)] = build(room, authenticator, passwords=Passwords(cheap))
        driving = asyncio.create_task(_drive(cluster))
        yield Near(str(tmp_path), cluster, backend, credentials)
        driving.cancel()
        del _SITES[str(tmp_path)]


def copied(handle: T) -> T:
    """What a task gets of a handle."""
    return pickle.loads(pickle.dumps(handle))  # type: ignore[no-any-return]
