"""Parts of the identity on their own: noauth, passwords, memory."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import cast

import httpx
import pytest
from argon2 import PasswordHasher

from cluster.outside import Outside
from cluster.settings import IdentityMode, IdentitySettings, Settings
from cluster.store.seam import Store
from serve_app.app import authenticator_of, build
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
