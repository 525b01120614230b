"""What only the NBD export promises: limits that hold and change while in use, one node a volume, reconnection."""

from __future__ import annotations

import asyncio
import os
import re
from dataclasses import replace

import pytest

from drivers.exports import nbd_nodes
from drivers.exports.nbd import NbdExport
from drivers.protocols import Export
from drivers.vocabulary import GIB, UNLIMITED, Limits
from tests.conformance.export_harness import ExportHarness, NbdTcp, NbdUnix, Target, run, stored

# qemu-img bench takes no keys; the gateway of a TCP consumer is behind the same throttle.
by_socket = pytest.mark.parametrize("way", [NbdUnix], ids=["nbd-unix"], indirect=True)
either_way = pytest.mark.parametrize("way", [NbdUnix, NbdTcp], ids=["nbd-unix", "nbd-tcp"], indirect=True)

# Low enough for any machine: a limit that the machine itself does not reach would prove nothing.
LIMITS = [
    (Limits(total_iops=100), "-w", 4096, 400, 100.0),
    (Limits(write_iops=80, read_iops=5000), "-w", 4096, 320, 80.0),
    (Limits(read_iops=100), "", 4096, 400, 100.0),
    (Limits(total_bytes=4 << 20), "-w", 64 << 10, 256, 64.0),
    (Limits(write_bytes=2 << 20), "-w", 64 << 10, 128, 32.0),
    (Limits(read_bytes=4 << 20), "", 64 << 10, 256, 64.0),
]


async def _rate(way: ExportHarness, target: Target, direction: str, size: int, count: int) -> float:
    """Requests a second, as qemu-img measured them over some four seconds, its start not counted."""
    orders = ["-c", str(count), "-d", "8", "-s", str(size), "-t", "none", *([direction] if direction else [])]
    said = await run(["qemu-img", "bench", *orders, *target.arguments(), target.image])
    found = re.search(r"Run completed in ([\d.]+) seconds", said)
    assert found, said
    return count / float(found[1])


@by_socket
@pytest.mark.parametrize(("limits", "direction", "size", "count", "wanted"), LIMITS)
async def test_limits_hold(
    way: ExportHarness, export: Export, limits: Limits, direction: str, size: int, count: int, wanted: float
) -> None:
    """Within the promised ten percent."""
    volume_id, path = way.place.volume()
    info = await export.ensure_connection(way.spec(volume_id, limits=limits), path)
    if not direction:  # a hole is told to the consumer as one, and nothing is read
        with path.open("r+b") as stream:
            stream.write(os.urandom(count * size))
    rate = await _rate(way, way.target(info), direction, size, count)
    assert wanted * 0.9 <= rate <= wanted * 1.1


@by_socket
async def test_limits_change_while_in_use(way: ExportHarness, export: Export) -> None:
    volume_id, path = way.place.volume()
    spec = way.spec(volume_id, limits=Limits(total_iops=50))
    info = await export.ensure_connection(spec, path)
    session = await way.session(info)
    try:
        assert await session.order("write -P 1 0 4096", 20)
        assert 45 <= await _rate(way, way.target(info), "-w", 4096, 200) <= 55
        assert await export.ensure_connection(replace(spec, limits=Limits(total_iops=200)), path) == info
        assert 180 <= await _rate(way, way.target(info), "-w", 4096, 800) <= 220
        assert await export.ensure_connection(replace(spec, limits=UNLIMITED), path) == info
        assert await _rate(way, way.target(info), "-w", 4096, 800) > 220
        assert await session.order("write -P 2 0 4096", 20), "the session went on all the time"
    finally:
        await session.close()


@by_socket
async def test_each_consumer_has_its_own_limit(way: ExportHarness, export: Export) -> None:
    volume_id, path = way.place.volume()
    slow = await export.ensure_connection(way.spec(volume_id, limits=Limits(total_iops=50)), path)
    fast = await export.ensure_connection(way.spec(volume_id, limits=Limits(total_iops=150)), path)
    rates = await asyncio.gather(
        _rate(way, way.target(slow), "-w", 4096, 200), _rate(way, way.target(fast), "-w", 4096, 600)
    )
    assert 45 <= rates[0] <= 55
    assert 135 <= rates[1] <= 165


@by_socket
async def test_limits_outlive_growth(way: ExportHarness, export: Export) -> None:
    volume_id, path = way.place.volume()
    info = await export.ensure_connection(way.spec(volume_id, limits=Limits(total_iops=100)), path)
    os.truncate(path, 2 * GIB)
    await export.resized(volume_id, path)
    assert await way.size(info) == 2 * GIB
    assert 90 <= await _rate(way, way.target(info), "-w", 4096, 400) <= 110


@by_socket
async def test_one_block_node_a_volume(way: ExportHarness, export: Export) -> None:
    assert isinstance(export, NbdExport)
    volumes = [way.place.volume() for _ in range(2)]
    specs = [way.spec(volumes[number % 2][0]) for number in range(6)]
    for number, spec in enumerate(specs):
        await export.ensure_connection(spec, volumes[number % 2][1])
    assert await _files(export) == 2
    for spec in specs:
        await export.ensure_connection_absent(spec.id, spec.volume_id)
    assert await _files(export) == 0


async def _files(export: NbdExport) -> int:
    async with export._qmp.conversation() as talk:
        return len([name for name in await nbd_nodes._nodes(talk) if name.startswith("v")])


@either_way
async def test_a_consumer_that_waits_outlives_what_serves(way: ExportHarness, export: Export) -> None:
    """With QEMU's reconnect-delay, it sees neither the daemon's death nor growth."""
    volume_id, path = way.place.volume()
    spec = way.spec(volume_id)
    info = await export.ensure_connection(spec, path)
    session = await way.session(info, "reconnect-delay=60")
    try:
        assert await session.order("write -P 1 0 4096", 20)
        way.place.kill_daemons()
        await export.open()
        await export.ensure_connection(spec, path)
        assert await session.order("write -P 2 4096 4096", 60)
        os.truncate(path, 2 * GIB)
        await export.resized(volume_id, path)
        assert await session.order("write -P 3 8192 4096", 60)
    finally:
        await session.close()
    assert stored(path, 0, 3 * 4096) == bytes([1]) * 4096 + bytes([2]) * 4096 + bytes([3]) * 4096
