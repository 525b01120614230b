"""What consumers read and write through an export is the volume: both ways, shared, read-only, grown."""

from __future__ import annotations

import asyncio
import os
import random

import pytest

from drivers.protocols import Export
from drivers.vocabulary import GIB, AccessMode
from tests.conformance.export_harness import ExportHarness, RefusedError, stored

BLOCK = 64 << 10


def content(seed: int, length: int = BLOCK) -> bytes:
    return random.Random(seed).randbytes(length)


async def test_bytes_go_both_ways(way: ExportHarness, export: Export) -> None:
    volume_id, path = way.place.volume()
    info = await export.ensure_connection(way.spec(volume_id), path)
    await way.write(info, 3 * BLOCK, content(1))
    await way.write(info, GIB - BLOCK, content(2))
    for offset, seed in ((3 * BLOCK, 1), (GIB - BLOCK, 2)):
        assert stored(path, offset, BLOCK) == content(seed)
    assert stored(path, 0, BLOCK) == bytes(BLOCK)
    with path.open("r+b") as stream:
        stream.seek(7 * BLOCK)
        stream.write(content(3))
        stream.flush()
        os.fsync(stream.fileno())
    assert await way.read(info, 7 * BLOCK, BLOCK) == content(3)
    assert await way.read(info, 3 * BLOCK, BLOCK) == content(1)
    assert await way.size(info) == GIB


async def test_discarded_blocks_go_back_to_the_pool(way: ExportHarness, export: Export) -> None:
    volume_id, path = way.place.volume()
    info = await export.ensure_connection(way.spec(volume_id), path)
    await way.write(info, 0, content(4, 8 << 20))
    before = path.stat().st_blocks * 512
    assert before >= 8 << 20
    await way.io(way.target(info), "discard 0 8M", "flush")
    assert path.stat().st_blocks * 512 <= before - (7 << 20)
    assert await way.read(info, 0, BLOCK) == bytes(BLOCK)


async def test_read_only_refuses_writes(way: ExportHarness, export: Export) -> None:
    volume_id, path = way.place.volume()
    with path.open("r+b") as stream:
        stream.write(content(5))
    info = await export.ensure_connection(way.spec(volume_id, AccessMode.READ_ONLY), path)
    assert info.data["access_mode"] == "ro"
    assert await way.read(info, 0, BLOCK) == content(5)
    with pytest.raises(RefusedError):
        await way.write(info, 0, content(6))
    assert stored(path, 0, BLOCK) == content(5)


async def test_a_reader_beside_a_writer(way: ExportHarness, export: Export) -> None:
    volume_id, path = way.place.volume()
    writer = await export.ensure_connection(way.spec(volume_id), path)
    reader = await export.ensure_connection(way.spec(volume_id, AccessMode.READ_ONLY), path)
    await way.write(writer, BLOCK, content(7))
    assert await way.read(reader, BLOCK, BLOCK) == content(7)
    with pytest.raises(RefusedError):
        await way.write(reader, BLOCK, content(8))
    await way.write(writer, BLOCK, content(9))
    assert await way.read(writer, BLOCK, BLOCK) == content(9)


async def test_shared_writers(way: ExportHarness, export: Export) -> None:
    """Multiattach: two consumers write at once, each to its blocks, and each then finds what the other wrote."""
    volume_id, path = way.place.volume()
    infos = [await export.ensure_connection(way.spec(volume_id), path) for _ in range(2)]
    await asyncio.gather(
        *(
            way.write(info, (2 * block + part) * BLOCK, content(10 * block + part))
            for block in range(4)
            for part, info in enumerate(infos)
        )
    )
    for block in range(4):
        for part in range(2):
            found = await way.read(infos[1 - part], (2 * block + part) * BLOCK, BLOCK)
            assert found == content(10 * block + part)


async def test_growth_is_seen(way: ExportHarness, export: Export) -> None:
    volume_id, path = way.place.volume()
    spec = way.spec(volume_id)
    reading = way.spec(volume_id, AccessMode.READ_ONLY)
    info = await export.ensure_connection(spec, path)
    reader = await export.ensure_connection(reading, path)
    await way.write(info, 0, content(11))
    for size_gib in (2, 2, 3):  # one of them is a repeat
        os.truncate(path, size_gib * GIB)
        await export.resized(volume_id, path)
        assert await way.size(info) == size_gib * GIB
        assert await way.size(reader) == size_gib * GIB
    await way.write(info, 3 * GIB - BLOCK, content(12))
    assert await way.read(reader, 3 * GIB - BLOCK, BLOCK) == content(12)
    assert await way.read(info, 0, BLOCK) == content(11)
    assert path.stat().st_size == 3 * GIB
    with pytest.raises(RefusedError):
        await way.write(reader, 0, content(13))
    assert await export.ensure_connection(spec, path) == info


async def test_growth_of_what_nobody_has(way: ExportHarness, export: Export) -> None:
    volume_id, path = way.place.volume()
    await export.resized(volume_id, path)
    assert await export.connections() == []


async def test_growth_spares_other_volumes(way: ExportHarness, export: Export) -> None:
    """Their sessions go on."""
    (grown, grown_path), (other, other_path) = way.place.volume(), way.place.volume()
    await export.ensure_connection(way.spec(grown), grown_path)
    info = await export.ensure_connection(way.spec(other), other_path)
    session = await way.session(info)
    try:
        assert await session.order("write -P 17 0 4096", 20)
        os.truncate(grown_path, 2 * GIB)
        await export.resized(grown, grown_path)
        assert await session.order("write -P 18 4096 4096", 20)
    finally:
        await session.close()
    assert stored(other_path, 0, 8192) == bytes([17]) * 4096 + bytes([18]) * 4096
