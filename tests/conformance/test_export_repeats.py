"""Repeats, many at once, and many in a row: the calls of an export make things so, and leave nothing."""

from __future__ import annotations

import asyncio
import uuid
from pathlib import Path

import pytest

from actors.processes import is_alive
from drivers.protocols import Export
from drivers.vocabulary import AccessMode, BadNameError, ConnectionItem, Limits, StorageError, UnsupportedError
from tests.conformance.export_harness import HOST, ExportHarness, stored

CONNECTIONS = 24
VOLUMES = 8


def test_it_is_an_export(way: ExportHarness) -> None:
    export = way.export()
    assert isinstance(export, Export)
    assert export.protocol == way.protocol
    assert list(way.place.directory.iterdir()) == [], "making an export touches nothing"


async def test_a_repeat_gives_the_same(way: ExportHarness, export: Export) -> None:
    volume_id, path = way.place.volume()
    spec = way.spec(volume_id)
    info = await export.ensure_connection(spec, path)
    await export.open()
    assert [await export.ensure_connection(spec, path) for _ in range(3)] == [info] * 3
    assert set(await asyncio.gather(*(_data(export.ensure_connection(spec, path)) for _ in range(8)))) == {
        tuple(sorted(info.data.items()))
    }
    assert await export.connections() == [ConnectionItem(spec.id, volume_id)]
    assert len(way.place.loop_devices()) == (1 if way.protocol == "local" else 0)
    await export.ensure_connection_absent(spec.id, volume_id)
    await export.ensure_connection_absent(spec.id, volume_id)
    assert await export.connections() == []


async def _data(call):
    return tuple(sorted((await call).data.items()))


async def test_removing_what_never_was(way: ExportHarness, export: Export) -> None:
    await export.ensure_connection_absent(str(uuid.uuid4()), str(uuid.uuid4()))
    assert await export.connections() == []


async def test_the_mode_can_change(way: ExportHarness, export: Export) -> None:
    """A connection that is asked for with another mode is remade with it."""
    volume_id, path = way.place.volume()
    spec = way.spec(volume_id, AccessMode.READ_ONLY)
    await export.ensure_connection(spec, path)
    writable = way.spec(volume_id, connection_id=spec.id)
    info = await export.ensure_connection(writable, path)
    await way.write(info, 0, b"w" * 4096)
    assert stored(path, 0, 4096) == b"w" * 4096
    assert await export.connections() == [ConnectionItem(spec.id, volume_id)]


async def test_names_are_checked(way: ExportHarness, export: Export) -> None:
    volume_id, path = way.place.volume()
    with pytest.raises(BadNameError):
        await export.ensure_connection(way.spec(volume_id, connection_id="../../etc"), path)
    with pytest.raises(BadNameError):
        await export.ensure_connection(way.spec("volume"), path)
    with pytest.raises(BadNameError):
        await export.ensure_connection_absent("..", volume_id)
    with pytest.raises(BadNameError):
        await export.resized("..", path)


async def test_a_volume_that_is_not_there(way: ExportHarness, export: Export) -> None:
    missing = way.place.directory / "missing"
    spec = way.spec(str(uuid.uuid4()))
    with pytest.raises(StorageError):
        await export.ensure_connection(spec, missing)
    assert not missing.exists()
    assert await export.connections() == []
    await export.ensure_connection_absent(spec.id, spec.volume_id)


async def test_limits_are_kept_or_refused(way: ExportHarness, export: Export) -> None:
    volume_id, path = way.place.volume()
    spec = way.spec(volume_id, limits=Limits(total_iops=100))
    if way.protocol == "nbd":
        await export.ensure_connection(spec, path)
    else:
        with pytest.raises(UnsupportedError):
            await export.ensure_connection(spec, path)
        assert await export.connections() == []


async def test_many_at_once(way: ExportHarness, export: Export) -> None:
    volumes = [way.place.volume() for _ in range(VOLUMES)]
    specs = [way.spec(volumes[number % VOLUMES][0]) for number in range(CONNECTIONS)]
    infos = await asyncio.gather(
        *(export.ensure_connection(spec, volumes[number % VOLUMES][1]) for number, spec in enumerate(specs))
    )
    assert sorted(item.id for item in await export.connections()) == sorted(spec.id for spec in specs)
    writes = asyncio.Semaphore(4)

    async def write(number: int) -> None:
        async with writes:
            await way.write(infos[number], number * 4096, bytes([number + 1]) * 4096)

    await asyncio.gather(*(write(number) for number in range(CONNECTIONS)))
    for number in range(CONNECTIONS):
        assert stored(volumes[number % VOLUMES][1], number * 4096, 4096) == bytes([number + 1]) * 4096
    await asyncio.gather(*(export.ensure_connection_absent(spec.id, spec.volume_id) for spec in specs))
    assert await export.connections() == []


async def test_making_and_removing_race(way: ExportHarness, export: Export) -> None:
    """Whatever order they take, a removal at the end leaves nothing."""
    volume_id, path = way.place.volume()
    spec = way.spec(volume_id)
    for _ in range(5):
        await asyncio.gather(
            export.ensure_connection(spec, path),
            export.ensure_connection_absent(spec.id, volume_id),
            export.ensure_connection(spec, path),
        )
    await export.ensure_connection_absent(spec.id, volume_id)
    assert await export.connections() == []
    assert way.place.loop_devices() == []


async def test_a_caller_that_goes_away(way: ExportHarness, export: Export) -> None:
    """A call whose awaiter is cancelled ends as a whole, and a removal comes after it."""
    volume_id, path = way.place.volume()
    spec = way.spec(volume_id)
    for delay in (0.0, 0.002, 0.01):
        call = asyncio.ensure_future(export.ensure_connection(spec, path))
        await asyncio.sleep(delay)
        call.cancel()
        await asyncio.gather(call, return_exceptions=True)
        await export.ensure_connection_absent(spec.id, volume_id)
        assert await export.connections() == []


async def test_a_hundred_rounds_leave_nothing(way: ExportHarness, export: Export) -> None:
    volume_id, path = way.place.volume()
    before, opened = None, 0
    for _ in range(101):
        spec = way.spec(volume_id)
        await export.ensure_connection(spec, path)
        await export.ensure_connection_absent(spec.id, volume_id)
        if before is None:
            before, opened = _left(way), _open_files_of_daemons(way)
    assert _left(way) == before
    # A few come and go: a control connection that is just closing, a thread's event.
    assert _open_files_of_daemons(way) < opened + 10
    assert _open_files("self") < 100


def _left(way: ExportHarness) -> tuple[object, ...]:
    """Daemons, loop devices, and every file of the place."""
    daemons = sorted(found.pid for found in way.place.daemons() if is_alive(found.pid))
    files = sorted(str(entry) for entry in way.place.directory.rglob("*"))
    return daemons, way.place.loop_devices(), files


def _open_files_of_daemons(way: ExportHarness) -> int:
    return sum(_open_files(str(found.pid)) for found in way.place.daemons())


def _open_files(process: str) -> int:
    return len(list(Path("/proc", process, "fd").iterdir()))


def test_who_is_served(way: ExportHarness) -> None:
    """The default address is loopback, which no consumer of another node reaches."""
    export = way.export()
    assert export.serves(way.connector())
    assert not export.serves({**way.connector(), "host": "elsewhere"})
    assert export.serves({"host": HOST, "initiator": way.initiator()})
