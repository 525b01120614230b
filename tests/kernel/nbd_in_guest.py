"""In the guest: the consumer side of the export `nbd` takes the kernel's own network block devices where there are any.

Not collected by itself: `test_kernel.py` runs it in the guest.
"""

from __future__ import annotations

import errno
import os
import signal
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from actors import processes
from drivers.attach import devices
from drivers.attach.contents import io_counts
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


async def test_who_waits_for_a_client_that_is_stopped_gets_an_error_when_it_is_cut_off(way: ExportHarness) -> None:
    export = way.export()
    await export.open()
    volume_id, path = way.place.volume()
    spec = way.spec(volume_id)
    info = await export.ensure_connection(spec, path)
    directory, claim = way.place.directory / "node", str(uuid.uuid4())
    device = devices.ensure(directory, claim, "nbd", info.data, AccessMode.READ_WRITE)
    own = str(devices.own_directory(directory, claim))
    [client] = [one.pid for one in way.place.daemons() if own in str(one.argv)]
    descriptor = os.open(device.path, os.O_RDONLY | os.O_CLOEXEC)
    os.kill(client, signal.SIGSTOP)
    failed: list[OSError] = []

    def read() -> None:
        try:
            os.pread(descriptor, BLOCK, GIB // 2)
        except OSError as error:
            failed.append(error)

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    reader.join(2)
    assert reader.is_alive()
    before = io_counts(device.path)
    reader.join(2)
    assert io_counts(device.path) == before, "nothing moves while it hangs"
    devices.cut(directory, claim)
    reader.join(20)
    assert [error.errno for error in failed] == [errno.EIO]
    os.close(descriptor)
    devices.ensure_absent(directory, claim)
    assert not _in_use()
    await export.ensure_connection_absent(spec.id, volume_id)


def _in_use() -> list[str]:
    return [entry.name for entry in Path("/sys/block").glob("nbd*") if (entry / "pid").exists()]
