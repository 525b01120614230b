"""The node actor is killed at every step of a mount and of an unmount, with real devices, daemons and file systems.

A *point* is before or after anything that leaves a trace: a claim's file, a request to the API, a process, a device, a
program of the system, a file or directory of the node. A first run counts them; then each is the last thing that a life
does, and another life on the same directory has to leave nothing behind when the owner is gone, or serve an owner who
repeats. The API and the export live elsewhere and are not killed.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from functools import wraps
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from actors import node_host, processes
from actors.handles.session import Session
from actors.node_claims import ClaimFiles, Owner
from actors.node_host import NodeHost
from drivers.attach import contents, filesystems, making, nbd_device
from drivers.exports import loop_device
from drivers.exports.daemon import Daemon
from drivers.exports.local import LocalExport
from drivers.exports.nbd import NbdExport
from drivers.exports.options import LocalOptions, NbdOptions
from drivers.exports.place import Node
from drivers.vocabulary import UNLIMITED, AccessMode, ConnectionSpec
from tests.conformance.export_harness import Place

_BYTES = 64 << 20
_GONE = Owner(2**22 - 1, "0")
_LIVES = Owner(os.getpid(), processes.started_at(os.getpid()))
RW, RO = AccessMode.READ_WRITE, AccessMode.READ_ONLY


class KilledError(BaseException):
    """Nobody catches it: this life is over."""


class Life:
    """Which point is the last of the life that runs now; a life that is over does nothing more."""

    def __init__(self) -> None:
        self.last: int | None = None
        self.names: list[str] = []
        self.is_over = False

    def begin(self, last: int | None = None) -> None:
        self.last, self.names, self.is_over = last, [], False

    def point(self, name: str) -> None:
        if self.is_over:
            raise KilledError(name)
        self.names.append(name)
        if len(self.names) == self.last:
            self.is_over = True
            raise KilledError(name)


class Api:
    """What the API does with attachments, over a real export. Not killed."""

    def __init__(self, export: LocalExport | NbdExport, files: dict[str, Path]) -> None:
        self.export, self.files = export, files
        self.attachments: dict[str, dict[str, Any]] = {}

    async def answer(self, method: str, path: str, body: Any = None) -> Any:
        match method, path.partition("?")[0].split("/")[1:]:
            case "POST", ["attachments"]:
                return {"attachment": await self._create(body["attachment"])}
            case "POST", ["attachments", _, "action"]:
                return None
            case "GET", ["attachments", *_]:
                wanted = dict(part.split("=") for part in path.partition("?")[2].split("&"))
                found = [
                    one
                    for one in self.attachments.values()
                    if wanted.get("instance_id", one["instance"]) == one["instance"]
                    and wanted.get("volume_id", one["volume_id"]) == one["volume_id"]
                ]
                return {"attachments": found}
            case "DELETE", ["attachments", attachment_id]:
                await self._delete(attachment_id)
                return None
        raise AssertionError((method, path))

    async def abandon(self, claim_id: str) -> None:
        for one in [one for one in self.attachments.values() if one["instance"] == claim_id]:
            await self._delete(one["id"])

    async def _create(self, asked: dict[str, Any]) -> dict[str, Any]:
        attachment_id, volume_id = str(uuid.uuid4()), asked["volume_uuid"]
        spec = ConnectionSpec(
            attachment_id, volume_id, 1, AccessMode(asked["mode"]), asked["connector"], "ab" * 32, UNLIMITED
        )
        made = {"id": attachment_id, "volume_id": volume_id, "instance": asked["instance_uuid"]}
        self.attachments[attachment_id] = {**made, "attach_mode": asked["mode"]}
        info = await self.export.ensure_connection(spec, self.files[volume_id])
        return {**made, "connection_info": {"driver_volume_type": info.driver_volume_type, **info.data}}

    async def _delete(self, attachment_id: str) -> None:
        one = self.attachments[attachment_id]
        await self.export.ensure_connection_absent(attachment_id, one["volume_id"])
        del self.attachments[attachment_id]


class World:
    """A node, an export, and a caller."""

    def __init__(self, place: Place, export: LocalExport | NbdExport, life: Life) -> None:
        self.place, self.life = place, life
        self.directory = place.directory / "node"
        self.volume_id, file = place.volume(_BYTES)
        self.api = Api(export, {self.volume_id: file})

    def host(self) -> NodeHost:
        async def abandon(claim_id: str) -> None:
            self.life.point("abandon:before")
            await self.api.abandon(claim_id)
            self.life.point("abandon:after")

        return NodeHost(self.directory, {"host": "here", "ip": "127.0.0.1"}, abandon)

    def session(self) -> Session:
        life, api = self.life, self.api

        class Calls:
            async def call(self, method: str, path: str, body: Any = None) -> Any:
                life.point(f"{method}:before")
                answer = await api.answer(method, path, body)
                life.point(f"{method}:after")
                return answer

        return Calls()  # type: ignore[return-value]

    def empty(self) -> None:
        """The volume is as when it was made."""
        for size in (0, _BYTES):
            os.truncate(self.api.files[self.volume_id], size)

    def left(self) -> list[str]:
        """Everything that a claim may leave."""
        loops = [f"{one.path} {one.backing} {one.tag}" for one in loop_device.bound() if self._is_ours(one.backing)]
        mounts = [line for line in Path("/proc/self/mountinfo").read_text().splitlines() if str(self.directory) in line]
        files = [str(path) for path in self.directory.glob("*/*")]
        running = [str(one) for one in self.place.daemons() if str(self.directory) in str(one.argv)]
        return [*loops, *mounts, *files, *running, *map(str, self.api.attachments.values())]

    def _is_ours(self, backing: str) -> bool:
        return backing.startswith((str(self.directory), str(self.api.files[self.volume_id])))

    async def mount(self, host: NodeHost, claim: str, owner: Owner, mode: AccessMode = RW) -> Path:
        filesystem = "ext4" if mode is RW else None
        return Path(await host.mount(claim, self.session(), self.volume_id, mode, filesystem, owner))

    async def reopened(self) -> NodeHost:
        self.life.begin()
        host = self.host()
        await host.open()
        return host

    async def settles(self, host: NodeHost, left: list[str]) -> None:
        """The loop of the host leaves no more than this."""
        loop = asyncio.create_task(host.serve())
        try:
            async with asyncio.timeout(30):
                while host._claims.keys() & {claim.id for claim in host._claims.values() if not claim.owner.lives()}:
                    await asyncio.sleep(0.005)
        finally:
            loop.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await loop
        assert sorted(self.left()) == sorted(left)


def _pointed(life: Life, name: str, work: Callable[..., Any], ours: Callable[..., bool]) -> Callable[..., Any]:
    @wraps(work)
    def with_points(*args: Any, **kwargs: Any) -> Any:
        if not ours(*args):
            return work(*args, **kwargs)
        life.point(f"{name}:before")
        done = work(*args, **kwargs)
        life.point(f"{name}:after")
        return done

    return with_points


@pytest.fixture
def life(monkeypatch: pytest.MonkeyPatch) -> Iterator[Life]:
    """With points at everything that leaves a trace."""
    one = Life()
    monkeypatch.setattr(node_host, "_LOOK_SECONDS", 0.01)
    monkeypatch.setattr(node_host, "_AGAIN_SECONDS", 0.05)

    def put(where: Any, name: str, ours: Callable[..., bool] = lambda *_: True) -> None:
        whose = getattr(where, "__name__", "").rpartition(".")[2]
        monkeypatch.setattr(where, name, _pointed(one, f"{whose}.{name}", getattr(where, name), ours))

    def is_ours(path: Any, *_: Any) -> bool:
        return "/node/" in str(path) and "/pmx-" in str(path)

    for name in ("write", "remove"):
        put(ClaimFiles, name)
    for module in (filesystems, making, contents, nbd_device):
        put(module, "run")
    for name in ("_spawn", "_await_serving", "end"):
        put(Daemon, name, lambda daemon, *_: is_ours(daemon._directory))
    for name in ("bind", "unbind"):
        put(loop_device, name, lambda first, *_: is_ours(getattr(first, "backing", first)))
    put(nbd_device, "_write_key")
    put(making, "_write")
    put(shutil, "rmtree", is_ours)
    for name in ("mkdir", "rmdir", "unlink"):
        put(Path, name, is_ours)
    yield one
    one.begin()


@pytest_asyncio.fixture(params=["local", "nbd-tcp"])
async def world(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, life: Life) -> AsyncIterator[World]:
    place = Place()
    monkeypatch.setenv(processes.MARK, place.mark)
    export: LocalExport | NbdExport
    if request.param == "local":
        export = LocalExport(LocalOptions(), place.directory / "export", Node("here"))
    else:
        options = NbdOptions(transport=request.param[4:], port_first=22210, port_last=22300)
        export = NbdExport(options, place.directory / "export", Node("here"))
    await export.open()
    one = World(place, export, life)
    try:
        yield one
        assert one.left() == []
        assert await export.connections() == []
    finally:
        life.begin()
        place.kill_daemons()
        for line in reversed(Path("/proc/self/mountinfo").read_text().splitlines()):
            if str(one.directory) in line:
                os.system(f"umount --lazy {line.split()[4]}")
        for device in loop_device.bound():
            if one._is_ours(device.backing):
                loop_device.unbind(device, 5)
        place.leave()


Flow = Callable[[NodeHost, str], Awaitable[object]]


async def kill_everywhere(world: World, prepare: Flow, flow: Flow, after: Flow, *, is_empty: bool = False) -> None:
    """After `prepare`, kill `flow` at each point, then at none; then comes `after` in another life. It leaves what was
    there before. `is_empty`: the volume is, each time."""
    point, table, was_killed = 0, Counter[str](), True
    kept = world.left()
    while was_killed:
        point += 1
        claim = str(uuid.uuid4())
        host = await world.reopened()
        if is_empty:
            world.empty()
        await prepare(host, claim)
        world.life.begin(point)
        was_killed = False
        try:
            await flow(host, claim)
        except KilledError:
            was_killed = True
            table[world.life.names[-1]] += 1
        host = await world.reopened()
        try:
            await after(host, claim)
            await world.settles(host, kept)
        except BaseException as error:
            error.add_note(f"killed at point {point}: {list(table)[-1:]}")
            raise
    print(f"{point - 1} points:", ", ".join(f"{name} {count}" for name, count in sorted(table.items())))
    assert point > 10, table


async def nothing(_host: NodeHost, _claim: str) -> None:
    """Nothing is done."""


async def test_a_mount_is_killed_and_so_is_its_owner(world: World) -> None:
    async def flow(host: NodeHost, claim: str) -> None:
        await world.mount(host, claim, _GONE)

    await kill_everywhere(world, nothing, flow, nothing, is_empty=True)


@pytest.mark.parametrize("world", ["local", "nbd-unix"], indirect=True)
async def test_a_mount_is_killed_and_its_owner_tries_again(world: World) -> None:
    async def flow(host: NodeHost, claim: str) -> None:
        await world.mount(host, claim, _LIVES)

    async def again(host: NodeHost, claim: str) -> None:
        await host.unmount(claim, world.session())
        another = str(uuid.uuid4())
        path = await world.mount(host, another, _LIVES)
        (path / "count").open("a").write("x")
        await host.unmount(another, world.session())

    await kill_everywhere(world, nothing, flow, again, is_empty=True)


@pytest.mark.parametrize(
    ("world", "owner"),
    [
        pytest.param("local", _GONE, id="local-gone"),
        pytest.param("local", _LIVES, id="local-tries-again"),
        pytest.param("nbd-tcp", _LIVES, id="nbd-tcp-tries-again"),
    ],
    indirect=["world"],
)
async def test_an_unmount_is_killed(world: World, owner: Owner) -> None:
    async def prepare(host: NodeHost, claim: str) -> None:
        path = await world.mount(host, claim, owner)
        (path / claim).write_text("kept")

    async def flow(host: NodeHost, claim: str) -> None:
        await host.unmount(claim, world.session())

    async def after(host: NodeHost, claim: str) -> None:
        if owner is _LIVES:
            await host.unmount(claim, world.session())

    await kill_everywhere(world, prepare, flow, after)
    host, claim = await world.reopened(), str(uuid.uuid4())
    path = await world.mount(host, claim, _LIVES)
    found = [one for one in path.iterdir() if one.name != "lost+found"]
    assert {one.read_text() for one in found} == {"kept"}
    assert len(found) > 10
    await host.unmount(claim, world.session())


async def test_the_release_for_a_dead_owner_is_killed(world: World) -> None:
    async def prepare(host: NodeHost, claim: str) -> None:
        await world.mount(host, claim, _GONE)

    async def flow(host: NodeHost, claim: str) -> None:
        await host._let_go(host._claims[claim])

    await kill_everywhere(world, prepare, flow, nothing)


@pytest.mark.parametrize("world", ["local"], indirect=True)
async def test_a_second_mount_for_reading_is_killed_beside_the_first(world: World) -> None:
    first = str(uuid.uuid4())
    host = await world.reopened()
    path = await world.mount(host, first, _LIVES)
    (path / "text").write_text("first")
    await host.unmount(first, world.session())
    path = await world.mount(host, first, _LIVES, RO)

    async def flow(host: NodeHost, claim: str) -> None:
        await world.mount(host, claim, _GONE, RO)

    async def after(_host: NodeHost, _claim: str) -> None:
        assert (path / "text").read_text() == "first"

    await kill_everywhere(world, nothing, flow, after)
    await (await world.reopened()).unmount(first, world.session())
