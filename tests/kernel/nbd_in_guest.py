"""In the guest: the consumer side of the export `nbd` takes the kernel's own network block devices where there are any.

Not collected by itself: `test_kernel.py` runs it in the guest.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from actors import processes
from drivers.attach import devices
from drivers.vocabulary import GIB, AccessMode
from tests.conformance.export_harness import ExportHarness, NbdTcp, NbdUnix, Place, stored

BLOCK = 64 << 10


@pytest.fixture(params=[NbdUnix, NbdTcp], ids=lambda way: way.name)
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[ExportHarness]:
    place = Place()
    monkeypatch.setenv(processes.MARK, place.mark)
    yield request.param(place)
    place.leave()


async def test_attach_write_detach(way: ExportHarness) -> None:
    export = way.export()
    await export.open()
    volume_id, path = way.place.volume()
    spec = way.spec(volume_id)
    info = await export.ensure_connection(spec, path)
    directory, claim = way.place.directory / "node", str(uuid.uuid4())

    device = devices.ensure(directory, claim, "nbd", info.data, AccessMode.READ_WRITE)
    assert device.path.name.startswith("nbd"), device
    again = devices.ensure(directory, claim, "nbd", info.data, AccessMode.READ_WRITE)
    assert again.path == device.path
    descriptor = os.open(device.path, os.O_RDWR | os.O_CLOEXEC)
    assert os.lseek(descriptor, 0, os.SEEK_END) == GIB
    for offset, byte in ((1 << 20, b"\x5a"), (GIB - BLOCK, b"\xa5")):
        os.pwrite(descriptor, byte * BLOCK, offset)
    os.fsync(descriptor)
    os.close(descriptor)
    for offset, byte in ((1 << 20, b"\x5a"), (GIB - BLOCK, b"\xa5")):
        assert stored(path, offset, BLOCK) == byte * BLOCK

    devices.ensure_absent(directory, claim)
    assert not _in_use(), "the kernel has no such device any more"
    await export.ensure_connection_absent(spec.id, volume_id)
    assert await export.connections() == []


def _in_use() -> list[str]:
    return [entry.name for entry in Path("/sys/block").glob("nbd*") if (entry / "pid").exists()]
