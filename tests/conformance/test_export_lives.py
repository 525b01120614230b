"""Deaths: of the volume actor, of what serves, of both. What serves outlives the actor and is found again."""

from __future__ import annotations

import asyncio
import base64
import pickle
import signal
import sys
from pathlib import Path

import pytest

from drivers.protocols import Export
from drivers.vocabulary import BackendUnavailableError, ConnectionItem
from tests.conformance.export_harness import DAEMONS, ExportHarness, stored

_ACTOR = """
import asyncio, base64, os, pickle, signal, sys

async def run():
    kind, place, spec, path = pickle.loads(base64.b64decode(sys.argv[1]))
    export = kind(place).export()
    await export.open()
    await export.ensure_connection(spec, path)

asyncio.run(run())
os.kill(os.getpid(), signal.SIGKILL)
"""
_CHECKOUT = Path(__file__).parents[2]


async def test_the_actor_dies(way: ExportHarness) -> None:
    """It is another process, which makes the connection and is killed."""
    volume_id, path = way.place.volume()
    spec = way.spec(volume_id)
    told = base64.b64encode(pickle.dumps((type(way), way.place, spec, path))).decode()
    actor = await asyncio.create_subprocess_exec(sys.executable, "-c", _ACTOR, told, cwd=_CHECKOUT)
    assert await actor.wait() == -signal.SIGKILL
    serving = {found.pid for found in way.place.daemons()}
    assert bool(serving) == way.has_daemon

    export = way.export()
    await export.open()
    assert await export.connections() == [ConnectionItem(spec.id, volume_id)]
    info = await export.ensure_connection(spec, path)
    assert {found.pid for found in way.place.daemons()} == serving, "it was found again, not started again"
    assert len(way.place.loop_devices()) == (0 if way.has_daemon else 1)
    await way.write(info, 0, b"a" * 4096)
    assert stored(path, 0, 4096) == b"a" * 4096
    await export.ensure_connection_absent(spec.id, volume_id)
    assert await export.connections() == []
    assert way.place.loop_devices() == []


async def test_a_session_outlives_the_actor(way: ExportHarness, export: Export) -> None:
    volume_id, path = way.place.volume()
    info = await export.ensure_connection(way.spec(volume_id), path)
    session = await way.session(info)
    try:
        assert await session.order("write -P 1 0 4096", 20)
        await export.close()
        successor = way.export()
        await successor.open()
        assert len(await successor.connections()) == 1
        assert await session.order("write -P 2 4096 4096", 20)
    finally:
        await session.close()
    assert stored(path, 0, 8192) == bytes([1]) * 4096 + bytes([2]) * 4096


@pytest.mark.parametrize("way", DAEMONS, ids=lambda harness: harness.name, indirect=True)
async def test_what_serves_dies(way: ExportHarness, export: Export) -> None:
    volume_id, path = way.place.volume()
    specs = [way.spec(volume_id), way.spec(volume_id)]
    infos = [await export.ensure_connection(spec, path) for spec in specs]
    for actor in (export, way.export()):  # the actor lives on; the actor died with it
        way.place.kill_daemons()
        assert await actor.connections() == []
        await actor.open()
        assert [await actor.ensure_connection(spec, path) for spec in specs] == infos
        for info in infos:
            await way.write(info, 0, b"b" * 4096)
            assert await way.read(info, 0, 4096) == b"b" * 4096
        assert len(await actor.connections()) == 2


async def test_what_serves_died_before_a_removal(way: ExportHarness, export: Export) -> None:
    volume_id, path = way.place.volume()
    spec = way.spec(volume_id)
    await export.ensure_connection(spec, path)
    way.place.kill_daemons()
    await export.ensure_connection_absent(spec.id, volume_id)
    await export.resized(volume_id, path)
    await export.open()
    assert await export.connections() == []


async def test_removal_ends_sessions(way: ExportHarness, export: Export) -> None:
    volume_id, path = way.place.volume()
    spec, other = way.spec(volume_id), way.spec(volume_id)
    info = await export.ensure_connection(spec, path)
    other_info = await export.ensure_connection(other, path)
    session, unharmed = await way.session(info), await way.session(other_info)
    try:
        assert await session.order("write -P 1 0 4096", 20)
        assert await unharmed.order("write -P 2 4096 4096", 20)
        if way.ends_sessions:
            await export.ensure_connection_absent(spec.id, volume_id)
            assert not await session.order("write -P 3 0 4096", 3)
        else:
            with pytest.raises(BackendUnavailableError, match="still open"):
                await export.ensure_connection_absent(spec.id, volume_id)
            assert ConnectionItem(spec.id, volume_id) in await export.connections()
            await session.close()
            await export.ensure_connection_absent(spec.id, volume_id)
        assert await export.connections() == [ConnectionItem(other.id, volume_id)]
        assert await unharmed.order("write -P 4 8192 4096", 20)
    finally:
        await session.close()
        await unharmed.close()
    assert stored(path, 0, 3 * 4096) == bytes([1]) * 4096 + bytes([2]) * 4096 + bytes([4]) * 4096


@pytest.mark.parametrize("way", DAEMONS, ids=lambda harness: harness.name, indirect=True)
async def test_removal_under_load(way: ExportHarness, export: Export) -> None:
    volume_id, path = way.place.volume()
    other = way.spec(volume_id)
    await export.ensure_connection(other, path)
    for _ in range(3):
        spec = way.spec(volume_id)
        info = await export.ensure_connection(spec, path)
        session = await way.session(info)
        try:
            for number in range(64):
                await session.order(f"aio_write -q -P {number + 1} {number}M 1M", 0.001)
            await export.ensure_connection_absent(spec.id, volume_id)
            seen = path.stat().st_mtime_ns
            await asyncio.sleep(0.5)
            assert path.stat().st_mtime_ns == seen, "somebody still writes"
        finally:
            await session.close()
        assert await export.connections() == [ConnectionItem(other.id, volume_id)]


async def test_a_connection_that_comes_back(way: ExportHarness, export: Export) -> None:
    """Also while the device of before is still held open by its consumer."""
    volume_id, path = way.place.volume()
    spec = way.spec(volume_id)
    info = await export.ensure_connection(spec, path)
    session = await way.session(info)
    try:
        assert await session.order("write -P 5 0 4096", 20)
        if way.ends_sessions:
            await export.ensure_connection_absent(spec.id, volume_id)
        else:
            with pytest.raises(BackendUnavailableError):
                await export.ensure_connection_absent(spec.id, volume_id)
        assert await export.ensure_connection(spec, path) == info
    finally:
        await session.close()
    await asyncio.sleep(0.2)
    await way.write(info, 4096, b"c" * 4096)
    assert stored(path, 0, 8192) == bytes([5]) * 4096 + b"c" * 4096


@pytest.mark.parametrize("way", DAEMONS, ids=lambda harness: harness.name, indirect=True)
async def test_a_lost_control_socket(way: ExportHarness, export: Export) -> None:
    """A daemon that nobody can command any more is ended, not doubled."""
    volume_id, path = way.place.volume()
    spec = way.spec(volume_id)
    info = await export.ensure_connection(spec, path)
    before = {found.pid for found in way.place.daemons()}
    own = way.place.directory / "exports" / "b" / way.protocol
    for control in ("qmp.sock", "tgtd.0"):
        (own / control).unlink(missing_ok=True)
    await way.export().open()
    successor = way.export()
    assert await successor.ensure_connection(spec, path) == info
    assert len(way.place.daemons()) == len(before)
    await way.write(info, 0, b"d" * 4096)
    assert stored(path, 0, 4096) == b"d" * 4096
