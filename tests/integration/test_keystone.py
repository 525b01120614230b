"""Tokens of a real Keystone: what they let their bearers do here, and what happens when Keystone says no or nothing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from pydantic import SecretStr

from actors.cloud.compute_events import ComputeEvents
from cluster.outside import Outside
from cluster.settings import IdentityMode, IdentitySettings, Settings
from cluster.store.open import migrate, open_store
from serve_app.app import build
from serve_app.identity.keystone import KeystoneAuthenticator
from serve_app.wire.route import Room
from tests.integration.compute_server import compute_server
from tests.integration.keystone_server import KeystoneServer


@dataclass
class World:
    """A running Keystone and the projects in it."""

    keystone: KeystoneServer
    ours: str
    theirs: str


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    keystone = KeystoneServer(tmp_path_factory.mktemp("keystone"))
    try:
        keystone.prepare()
        keystone.start()
        keystone.add_user("cinder", keystone.add_project("service"), "service")
        ours, theirs = keystone.add_project("ours"), keystone.add_project("theirs")
        keystone.add_user("rita", ours, "reader")
        keystone.add_user("mia", ours, "member")
        keystone.add_user("ada", ours, "admin")
        yield World(keystone, ours, theirs)
    finally:
        keystone.kill()


class CountingTransport(httpx.AsyncHTTPTransport):
    """Counts what is asked of Keystone."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.calls += 1
        return await super().handle_async_request(request)


@dataclass
class Api:
    """Our API in front of that Keystone."""

    client: httpx.AsyncClient
    authenticator: KeystoneAuthenticator
    transport: CountingTransport

    async def status(self, path: str, token: str, method: str = "GET", **more: object) -> int:
        headers = {"X-Auth-Token": token}
        return (await self.client.request(method, path, headers=headers, **more)).status_code  # type: ignore[arg-type]


async def _api(world: World, path: Path, cache_seconds: int) -> AsyncIterator[Api]:
    identity = IdentitySettings(
        mode=IdentityMode.KEYSTONE,
        keystone_url=world.keystone.url,
        keystone_password=SecretStr(world.keystone.password),
        cache_seconds=cache_seconds,
    )
    settings = Settings(state_dir=path, identity=identity)
    await migrate(settings.database)
    store = open_store(settings.database)
    transport = CountingTransport()
    authenticator = KeystoneAuthenticator(identity, transport=transport)
    app = build(Room(store, settings, Outside(), lambda: None), authenticator)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://127.0.0.1:8776") as client:  # type: ignore[arg-type]
        yield Api(client, authenticator, transport)
    await authenticator.close()
    await store.close()


@pytest.fixture
async def api(world: World, tmp_path: Path) -> AsyncIterator[Api]:
    async for api in _api(world, tmp_path, 0):
        yield api


@pytest.fixture
async def remembering(world: World, tmp_path: Path) -> AsyncIterator[Api]:
    async for api in _api(world, tmp_path, 60):
        yield api


async def test_the_token_says_who_and_with_which_roles(world: World, api: Api) -> None:
    token = world.keystone.login("mia", world.keystone.password, "ours")
    caller = await api.authenticator.authenticate({"x-auth-token": token}, "req-1")
    assert (caller.user_name, caller.project_id, caller.project_name) == ("mia", world.ours, "ours")
    assert caller.roles == {"member", "reader"}
    assert not caller.is_admin


async def test_roles_decide(world: World, api: Api) -> None:
    tokens = {name: world.keystone.login(name, world.keystone.password, "ours") for name in ("rita", "mia", "ada")}
    volumes, services = f"/v3/{world.ours}/volumes", f"/v3/{world.ours}/os-services"
    assert [await api.status(volumes, tokens[name]) for name in tokens] == [200, 200, 200]
    assert [await api.status(services, tokens[name]) for name in tokens] == [403, 403, 200]
    assert await api.status(volumes, tokens["rita"], "POST", json={"volume": {"size": 1}}) == 403
    assert await api.status(f"/v3/{world.theirs}/volumes", tokens["mia"]) == 400
    assert await api.status("/v3/volumes", tokens["mia"]) == 200


async def test_nova_is_found_in_the_catalog_and_told_of_growth(world: World) -> None:
    identity = IdentitySettings(
        mode=IdentityMode.KEYSTONE,
        keystone_url=world.keystone.url,
        keystone_password=SecretStr(world.keystone.password),
    )
    events = ComputeEvents(identity, "RegionOne")
    assert await events.volume_extended("v", ["s"], "req-1")  # no Nova, nobody to tell
    with compute_server() as nova:
        service = world.keystone.call("POST", "/services", {"service": {"type": "compute", "name": "nova"}})
        endpoint = {"interface": "public", "region_id": "RegionOne", "url": nova.endpoint}
        endpoint["service_id"] = service["service"]["id"]
        made = world.keystone.call("POST", "/endpoints", {"endpoint": endpoint})
        try:
            assert await events.volume_extended("v", ["s"], "req-2")
        finally:
            world.keystone.call("DELETE", f"/endpoints/{made['endpoint']['id']}")
    ((token, event),) = nova.events
    assert event == {"name": "volume-extended", "server_uuid": "s", "tag": "v"}
    sent_by = world.keystone.call("GET", "/auth/tokens", headers={"X-Subject-Token": token})["token"]["user"]["name"]
    assert sent_by == "cinder"


async def test_garbage_and_nothing_are_401(world: World, api: Api) -> None:
    answer = await api.client.get("/v3/volumes")
    assert answer.status_code == 401
    assert answer.headers["WWW-Authenticate"] == f'Keystone uri="{world.keystone.url}"'
    for garbage in ("x", "gAAAAAB" + "a" * 200, "a" * 5000, "é".encode().decode("latin-1")):
        headers = {b"X-Auth-Token": garbage.encode("latin-1")}
        assert (await api.client.get("/v3/volumes", headers=headers)).status_code == 401


async def test_a_revoked_token_is_401(world: World, api: Api) -> None:
    token = world.keystone.login("mia", world.keystone.password, "ours")
    assert await api.status("/v3/volumes", token) == 200
    world.keystone.call("DELETE", "/auth/tokens", headers={"X-Subject-Token": token})
    assert await api.status("/v3/volumes", token) == 401


async def test_many_requests_with_one_token_ask_once(world: World, remembering: Api) -> None:
    token = world.keystone.login("mia", world.keystone.password, "ours")
    answers = await asyncio.gather(*[remembering.status("/v3/volumes", token) for _ in range(20)])
    assert set(answers) == {200}
    assert await remembering.status("/v3/volumes", token) == 200
    assert remembering.transport.calls == 2  # our own login and one validation


async def test_a_service_token_adds_its_role_and_a_false_one_is_401(world: World, api: Api) -> None:
    user = world.keystone.login("mia", world.keystone.password, "ours")
    service = world.keystone.login("cinder", world.keystone.password, "service")
    caller = await api.authenticator.authenticate({"x-auth-token": user, "x-service-token": service}, "req-1")
    assert "service" in caller.roles
    assert caller.user_name == "mia"
    headers = {"X-Auth-Token": user, "X-Service-Token": "x"}
    assert (await api.client.get("/v3/volumes", headers=headers)).status_code == 401


async def test_a_killed_keystone_is_503_and_its_return_is_noticed(world: World, api: Api) -> None:
    """Runs last: afterwards tokens live for seconds, so that one can be seen to expire, ours included."""
    keystone = world.keystone
    token = keystone.login("mia", keystone.password, "ours")
    keystone.kill()
    answer = await api.client.get("/v3/volumes", headers={"X-Auth-Token": token})
    assert answer.status_code == 503
    assert answer.json()["serviceUnavailable"]["message"] == "The Keystone service is temporarily unavailable."
    keystone.configure(expiration=4)
    keystone.start()
    assert await api.status("/v3/volumes", token) == 200
    brief = keystone.login("mia", keystone.password, "ours")
    await asyncio.sleep(5)
    assert await api.status("/v3/volumes", brief) == 401
    assert await api.status("/v3/volumes", token) == 200  # with a token of our own that was renewed on the way
