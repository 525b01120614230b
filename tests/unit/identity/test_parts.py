"""Parts of the identity on their own: noauth, passwords, memory."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import cast

import httpx
import pytest
from argon2 import PasswordHasher

from cluster.outside import Outside
from cluster.settings import IdentityMode, IdentitySettings, Settings, SettingsError, load
from cluster.store.seam import Store
from serve_app.app import authenticator_of, build
from serve_app.identity.catalog import services
from serve_app.identity.memory import Memory
from serve_app.identity.noauth import NoAuthenticator
from serve_app.identity.passwords import NO_PASSWORD, Passwords
from serve_app.wire.faults import Unavailable
from serve_app.wire.route import Room


async def test_noauth(tmp_path: Path) -> None:
    settings = Settings(state_dir=tmp_path, identity=IdentitySettings(mode=IdentityMode.NOAUTH))
    room = Room(cast(Store, None), settings, Outside(), lambda: None)
    authenticator = authenticator_of(room)
    assert isinstance(authenticator, NoAuthenticator)
    transport = httpx.ASGITransport(build(room, authenticator))  # type: ignore[arg-type]
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
        greeting = await client.get("/v3/extensions", headers={"X-Auth-User": "ann", "X-Auth-Project-Id": "ab"})
        assert (greeting.status_code, greeting.headers["X-Auth-Token"]) == (204, "ann:ab")
        assert (await client.get("/v3/")).status_code == 200
        assert (await client.get("/v3/ab/extensions", headers={"X-Auth-Token": "ann:ab"})).status_code == 200
        assert (await client.get("/v3/cd/extensions", headers={"X-Auth-Token": "ann:ab"})).status_code == 400
        assert (await client.get("/v3/extensions", headers={"X-Auth-Token": " : "})).status_code == 401
        assert (await client.get("/identity/v3")).status_code == 404
    caller = await authenticator.authenticate({"x-auth-token": "ann"}, "req-1")
    assert (caller.user_id, caller.project_id, caller.is_admin) == ("ann", "ann", True)


async def test_noauth_answers_under_its_own_names_only(tmp_path: Path) -> None:
    identity = IdentitySettings(mode=IdentityMode.NOAUTH)
    settings = Settings(state_dir=tmp_path, identity=identity, listen="127.0.0.5", public_url="https://Pumice.test/x")
    room = Room(cast(Store, None), settings, Outside(), lambda: None)
    transport = httpx.ASGITransport(build(room, NoAuthenticator()))  # type: ignore[arg-type]
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:

        async def status(host: str) -> int:
            headers = {"Host": host, "X-Auth-Token": "a:b"}
            return (await client.get("/v3/extensions", headers=headers)).status_code

        own = ("localhost", "LOCALHOST:8776", "127.0.0.1", "127.0.0.5:8776", "[::1]:8776", "[::1]", "pumice.test:443")
        assert [await status(host) for host in own] == [200] * len(own)
        others = (
            "evil.test",
            "evil.test:8776",
            "127.0.0.1.evil.test",
            "192.0.2.1",
            "localhost.evil.test",
            "[",
            "",
            "a b",
        )
        assert [await status(host) for host in others] == [403] * len(others)
        refused = await client.get("/v3/", headers={"Host": "evil.test"})
        assert refused.json()["forbidden"]["message"].startswith("Without authentication this service answers under")
    embedded = Room(cast(Store, None), Settings(state_dir=tmp_path), Outside(), lambda: None)
    transport = httpx.ASGITransport(build(embedded, NoAuthenticator()))  # type: ignore[arg-type]
    async with httpx.AsyncClient(transport=transport, base_url="http://any.test") as client:
        assert (await client.get("/healthcheck")).status_code == 200


@pytest.mark.parametrize("listen", ["0.0.0.0", "::", "0:0:0:0:0:0:0:0"])
def test_all_addresses_need_the_url_that_clients_use(tmp_path: Path, listen: str) -> None:
    with pytest.raises(SettingsError, match="set public_url to the URL that clients use"):
        load({"state_dir": str(tmp_path), "listen": listen})
    found = load({"state_dir": str(tmp_path), "listen": listen, "public_url": "https://storage.test/"})
    urls = [url for _, _, url in services(found, None)]
    assert urls == ["https://storage.test/v3", "https://storage.test/identity/v3"]


def make_passwords(first_delay: float = 0.0) -> Passwords:
    return Passwords(PasswordHasher(time_cost=1, memory_cost=8, parallelism=1), first_delay)


async def test_passwords() -> None:
    passwords = make_passwords()
    kept = await passwords.hashed("right")
    assert await passwords.verify("a", kept, "right")
    assert not await passwords.verify("a", kept, "wrong")
    assert not await passwords.verify("a", None, "right")
    assert not await passwords.verify("a", NO_PASSWORD, NO_PASSWORD)


async def test_a_name_that_fails_waits_and_one_that_succeeds_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    monkeypatch.setattr(asyncio, "sleep", sleep)
    passwords = make_passwords(0.1)
    kept = await passwords.hashed("right")
    for _ in range(7):
        await passwords.verify("a", kept, "wrong")
    assert slept == [0.1, 0.2, 0.4, 0.8, 1.6, 2.0]
    await passwords.verify("b", kept, "right")
    assert len(slept) == 6
    await passwords.verify("a", kept, "right")
    await passwords.verify("a", kept, "right")
    assert len(slept) == 7


async def test_a_crowd_of_guesses_waits_as_a_row_of_them_does(monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []
    yielding = asyncio.sleep

    async def sleep(seconds: float) -> None:
        slept.append(seconds)
        await yielding(0)

    monkeypatch.setattr(asyncio, "sleep", sleep)
    passwords = make_passwords(0.1)
    kept = await passwords.hashed("right")
    answers = await asyncio.gather(*[passwords.verify("a", kept, "wrong") for _ in range(30)])
    assert answers == [False] * 30
    assert slept == [0.1, 0.2, 0.4, 0.8, 1.6] + [2.0] * 24
    assert await passwords.verify("b", kept, "right")
    assert len(slept) == 29


async def test_a_crowd_for_one_name_is_refused_and_others_are_not() -> None:
    passwords = make_passwords()
    kept = await passwords.hashed("right")
    tries = [passwords.verify("a", kept, "wrong") for _ in range(100)]
    *answers, other = await asyncio.gather(*tries, passwords.verify("b", kept, "right"), return_exceptions=True)
    assert sum(isinstance(answer, Unavailable) for answer in answers) == 68
    assert answers.count(False) == 32
    assert other is True
    assert await passwords.verify("a", kept, "right")


async def test_one_who_goes_away_while_waiting_leaves_the_queue() -> None:
    passwords = make_passwords()
    kept = await passwords.hashed("right")
    waiting = [asyncio.create_task(passwords.verify("a", kept, "wrong")) for _ in range(32)]
    await asyncio.sleep(0)
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
    assert await passwords.verify("a", kept, "right")


async def test_a_flood_of_logins_is_refused_not_queued() -> None:
    passwords = make_passwords()
    kept = await passwords.hashed("right")
    tries = [passwords.verify(f"user{number}", kept, "wrong") for number in range(100)]
    answers = await asyncio.gather(*tries, return_exceptions=True)
    assert sum(isinstance(answer, Unavailable) for answer in answers) == 68
    assert await passwords.verify("a", kept, "right")


async def test_memory_asks_once_and_forgets() -> None:
    clock = [0.0]
    memory: Memory[int] = Memory(5, lambda: clock[0])
    asked: list[int] = []

    async def find() -> int:
        asked.append(1)
        await asyncio.sleep(0)
        return len(asked)

    assert await asyncio.gather(*[memory.get("t", find) for _ in range(9)]) == [1] * 9
    clock[0] = 4.9
    assert await memory.get("t", find) == 1
    clock[0] = 5
    assert await memory.get("t", find) == 2
    memory.forget()
    assert await memory.get("t", find) == 3


async def test_memory_keeps_no_token_and_nothing_forgettable() -> None:
    memory: Memory[int | None] = Memory(5, forgettable=lambda value: value is None)
    asked: list[int] = []

    async def nothing() -> None:
        asked.append(1)

    async def something() -> int:
        return 7

    for _ in range(3):
        assert await memory.get("x" * 4096, nothing) is None
    assert (len(asked), len(memory)) == (3, 0)
    assert await memory.get("secret-token", something) == 7
    assert len(memory) == 1
    assert "secret-token" not in repr(vars(memory))
    memory.forget("secret-token")
    assert len(memory) == 0


async def test_memory_is_bounded() -> None:
    memory: Memory[int] = Memory(5)

    async def find() -> int:
        return 1

    for number in range(10_001):
        await memory.get(str(number), find)
    assert len(memory) == 10_000


async def test_memory_survives_one_who_goes_away_and_does_not_keep_failures() -> None:
    memory: Memory[int] = Memory(5)
    gate = asyncio.Event()

    async def find() -> int:
        await gate.wait()
        return 1

    impatient = asyncio.create_task(memory.get("t", find))
    patient = asyncio.create_task(memory.get("t", find))
    await asyncio.sleep(0)
    impatient.cancel()
    await asyncio.sleep(0)
    gate.set()
    assert await patient == 1

    async def fail() -> int:
        raise Unavailable("down")

    with pytest.raises(Unavailable):
        await memory.get("u", fail)
    assert await memory.get("u", find) == 1
