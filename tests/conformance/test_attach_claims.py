"""Claims whose owner lives: calls for one that overlap, and releases that fail and are made up for. Real devices and
file systems; needs root."""

from __future__ import annotations

import asyncio
import threading
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from actors.handles.errors import FailedError, RefusedError, UnreachableError
from actors.node_claims import Claim, ClaimFiles
from actors.node_host import NodeHost
from drivers.attach import devices, filesystems
from drivers.attach.filesystems import LostWritesError, ensure_unmounted
from drivers.attach.programs import AttachError
from drivers.vocabulary import AccessMode
from tests.conformance import test_attach_kills as kills
from tests.conformance.test_attach_kills import World

life, world = kills.life, kills.world
pytestmark = pytest.mark.parametrize("world", ["local"], indirect=True)


async def released(host: NodeHost) -> None:
    """The loop of the host has ended all its claims."""
    loop = asyncio.create_task(host.serve())
    async with asyncio.timeout(20):
        while host._claims:
            await asyncio.sleep(0.005)
    loop.cancel()
    await asyncio.wait([loop])


async def test_calls_for_one_claim_that_overlap_leave_nothing(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    host, claim = await world.reopened(), str(uuid.uuid4())
    go_on, write = threading.Event(), ClaimFiles.write

    def held(files: ClaimFiles, one: Claim) -> None:
        write(files, one)
        assert go_on.wait(10)

    monkeypatch.setattr(ClaimFiles, "write", held)
    first = asyncio.create_task(world.mount(host, claim, kills._LIVES))
    await asyncio.sleep(0.05)  # it writes its claim
    calls: list[Callable[[], Any]] = [
        lambda: host.unmount(claim, world.session()),
        lambda: world.mount(host, claim, kills._LIVES),
        lambda: host.unmount(claim, world.session()),
    ]
    others = [asyncio.create_task(call()) for call in calls]
    await asyncio.sleep(0.05)
    go_on.set()
    assert await first == world.directory / "mounts" / claim
    await asyncio.gather(*others)
    assert world.left() == []
    assert host._claims == {}


@pytest.mark.parametrize("is_killed_then", [False, True])
async def test_what_was_busy_at_the_end_is_released_when_it_is_not(
    world: World, monkeypatch: pytest.MonkeyPatch, is_killed_then: bool
) -> None:
    monkeypatch.setattr(filesystems, "_UNMOUNT_SECONDS", 0.2)
    host, claim = await world.reopened(), str(uuid.uuid4())
    path = await world.mount(host, claim, kills._LIVES)
    with (path / "open").open("w"), pytest.raises(RefusedError, match="close them"):
        await host.unmount(claim, world.session())
    assert filesystems.is_mounted(path)
    if is_killed_then:
        host = await world.reopened()
    await released(host)
    assert world.left() == []
    await host.unmount(claim, world.session())


async def test_who_ends_it_again_is_told_what_was_lost_meanwhile(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(filesystems, "_UNMOUNT_SECONDS", 0.2)
    host, claim = await world.reopened(), str(uuid.uuid4())
    path = await world.mount(host, claim, kills._LIVES)
    with (path / "open").open("w"), pytest.raises(RefusedError):
        await host.unmount(claim, world.session())

    def losing(*args: Any) -> None:
        ensure_unmounted(*args)
        raise LostWritesError("not all that was written last is on the volume")

    monkeypatch.setattr(filesystems, "ensure_unmounted", losing)
    await released(host)
    with pytest.raises(FailedError, match="not all that was written last"):
        await host.unmount(claim, world.session())
    await host.unmount(claim, world.session())


async def test_who_ends_it_is_told_what_was_lost_although_a_later_step_had_to_be_repeated(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    host, claim = await world.reopened(), str(uuid.uuid4())
    await world.mount(host, claim, kills._LIVES)

    def losing(*args: Any) -> None:
        ensure_unmounted(*args)
        raise LostWritesError("not all that was written last is on the volume")

    def failing(*_: Any) -> None:
        raise AttachError("is still open")

    with monkeypatch.context() as within:
        within.setattr(filesystems, "ensure_unmounted", losing)
        within.setattr(devices, "ensure_absent", failing)
        with pytest.raises(FailedError, match="is still open"):
            await host.unmount(claim, world.session())
    with pytest.raises(FailedError, match="not all that was written last"):
        await host.unmount(claim, world.session())
    assert world.left() == []


async def test_what_a_failed_mount_could_not_give_back_is_given_back_later(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    file: Path = world.api.files[world.volume_id]
    file.write_bytes(b"a database's own format".ljust(file.stat().st_size, b"\0"))
    host, claim, delete = await world.reopened(), str(uuid.uuid4()), world.api._delete

    async def away(_: str) -> None:
        raise UnreachableError("no answer")

    monkeypatch.setattr(world.api, "_delete", away)
    with pytest.raises(FailedError, match="to keep it"):
        await host.mount(claim, world.session(), world.volume_id, AccessMode.READ_WRITE, "ext4", kills._LIVES)
    assert len(world.api.attachments) == 1
    monkeypatch.setattr(world.api, "_delete", delete)
    await released(host)
    assert world.left() == []
