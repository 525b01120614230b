"""The consumer's side of the export `nbd`: block devices of this kernel over a Unix socket and over TLS. Needs root.

Everything is real: the export's daemons, the consumer's, nbdfuse, loop devices, file systems, and for a node that falls
silent a network namespace.
"""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import json
import mmap
import os
import signal
import stat
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any, TypeVar

import pytest

from actors import processes
from actors.instance import mark_of
from actors.node_claims import node_directory
from drivers.attach import clearing, devices, filesystems, nbd_device
from drivers.attach.clearing import mount_point
from drivers.attach.contents import BlockDevice, data_ranges
from drivers.attach.filesystems import LostWritesError, is_mounted
from drivers.attach.programs import AttachError
from drivers.exports import loop_device
from drivers.exports.nbd import NbdExport
from drivers.exports.options import NbdOptions
from drivers.exports.place import Node
from drivers.vocabulary import UNLIMITED, AccessMode, ConnectionSpec
from serve_app.command.release import release
from tests.cluster import network
from tests.conformance.export_harness import Place

RW, RO = AccessMode.READ_WRITE, AccessMode.READ_ONLY
T = TypeVar("T")
_MIB = 1 << 20
_BYTES = 1 << 30
_BLOCK = 4096
_numbers = itertools.count(20)
_ERRORS = r"Input/output error|Read-only|Structure"
# Run in another network namespace: what the export says of a connection there.
_ELSEWHERE = """
import asyncio, json, sys
from pathlib import Path
from drivers.exports.nbd import NbdExport
from drivers.exports.options import NbdOptions
from drivers.exports.place import Node
from drivers.vocabulary import UNLIMITED, AccessMode, ConnectionSpec
directory, volume_id, file, connection, secret, address = sys.argv[1:]
async def connect():
    export = NbdExport(NbdOptions(address=address), Path(directory), Node("far"))
    await export.open()
    spec = ConnectionSpec(connection, volume_id, 1, AccessMode.READ_WRITE, {"host": "near"}, secret, UNLIMITED)
    return dict((await export.ensure_connection(spec, Path(file))).data)
print(json.dumps(asyncio.run(connect())))
"""


class Ends:
    """An export's end and a consumer's, in two directories of one place."""

    def __init__(self, place: Place, transport: str) -> None:
        self.place, self.transport = place, transport
        self.volume_id, self.file = place.volume(_BYTES)
        self.claim = str(uuid.uuid4())
        self.directory = place.directory / "node"
        self.mount = mount_point(self.directory, self.claim)
        self.connection = str(uuid.uuid4())
        self.secret = os.urandom(32).hex()

    def export(self, work: Callable[[NbdExport], Awaitable[T]]) -> T:
        """What `work` returns of the export, in another life of its actor."""
        options = NbdOptions(transport=self.transport, port_first=22110, port_last=22200)
        export = NbdExport(options, self.place.directory / "export", Node("here"))

        async def opened() -> T:
            await export.open()
            return await work(export)

        return asyncio.run(opened())

    def connect(self, mode: AccessMode = RW) -> dict[str, Any]:
        """Let the consumer in; the connection's data."""
        spec = ConnectionSpec(
            self.connection, self.volume_id, 1, mode, {"host": "here", "ip": "127.0.0.1"}, self.secret, UNLIMITED
        )
        return dict(self.export(lambda export: export.ensure_connection(spec, self.file)).data)

    def disconnect(self) -> None:
        self.export(lambda export: export.ensure_connection_absent(self.connection, self.volume_id))

    def attach(self, mode: AccessMode = RW) -> BlockDevice:
        return devices.ensure(self.directory, self.claim, "nbd", self.connect(mode), mode)

    def detach(self) -> None:
        devices.ensure_absent(self.directory, self.claim)

    def mounted(self, mode: AccessMode = RW, make: str | None = "xfs") -> Path:
        scratch = devices.scratch_file(self.directory, self.claim)
        filesystems.ensure_mounted(self.attach(mode), self.mount, mode, make, scratch)
        return self.mount

    def unmount(self) -> None:
        cut = lambda: devices.cut(self.directory, self.claim)  # noqa: E731
        filesystems.ensure_unmounted(self.mount, cut)
        self.detach()

    def daemons(self, name: str) -> list[int]:
        """The processes of the consumer's end."""
        return [one.pid for one in self.place.daemons() if one.name == name and str(self.directory) in str(one.argv)]

    def kill_export(self) -> None:
        """kill -9 of the daemons of the export's end."""
        for one in self.place.daemons():
            if str(self.directory) not in str(one.argv):
                processes.send(one, self.place.mark, signal.SIGKILL)

    def left(self) -> list[str]:
        """What there is of the consumer's end."""
        loops = [f"{one.path} {one.backing}" for one in loop_device.bound() if str(self.directory) in one.backing]
        mounts = [line for line in Path("/proc/self/mountinfo").read_text().splitlines() if str(self.directory) in line]
        files = [str(path) for path in self.directory.glob("*/*")]
        running = [str(one) for one in self.place.daemons() if str(self.directory) in str(one.argv)]
        return [*loops, *mounts, *files, *running]


@pytest.fixture(params=["unix", "tcp"])
def ends(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Ends]:
    place = Place()
    monkeypatch.setenv(processes.MARK, place.mark)
    one = Ends(place, request.param)
    try:
        yield one
        one.unmount()
        assert one.left() == []
        one.disconnect()
        assert one.export(NbdExport.connections) == []
    finally:
        subprocess.run(["umount", "--lazy", str(one.mount)], capture_output=True, check=False)
        place.kill_daemons()
        for device in loop_device.bound():
            if str(place.directory) in device.backing:
                loop_device.unbind(device, 5)
        for line in Path("/proc/self/mountinfo").read_text().splitlines():
            if str(place.directory) in line:
                subprocess.run(["umount", "--lazy", line.split()[4]], capture_output=True, check=False)
        place.leave()


@pytest.fixture
def far(ends: Ends) -> Iterator[network.Namespace]:
    """Where the export's end is, in the place of this machine."""
    with network.bridge(), network.namespace(next(_numbers)) as namespace:
        own = [str(ends.place.directory / "far"), ends.volume_id, str(ends.file)]
        command = namespace.within(sys.executable, "-c", _ELSEWHERE, *own, ends.connection, ends.secret)
        done = subprocess.run([*command, namespace.address], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        told = json.loads(done.stdout)
        assert told["host"] == namespace.address
        ends.connect = lambda *_: told  # type: ignore[method-assign]
        yield namespace
        ends.unmount()
        ends.kill_export()  # a namespace lasts as long as a process is in it


@pytest.mark.parametrize("ends", ["tcp"], indirect=True)
def test_a_node_that_falls_silent_gives_errors_in_time_and_can_be_left(
    ends: Ends, far: network.Namespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nbd_device, "_AWAY_SECONDS", 1)
    monkeypatch.setattr(nbd_device, "_SILENT_SECONDS", 3.0)
    path = ends.mounted() / "data"
    path.write_text("before")
    os.sync()
    far.cut()
    began = time.monotonic()
    with pytest.raises(OSError, match=_ERRORS), path.open("w") as stream:
        stream.write("lost")
        stream.flush()
        os.fsync(stream.fileno())
    assert time.monotonic() - began < 60  # the kernel alone takes fifteen minutes
    with pytest.raises(LostWritesError):
        ends.unmount()
    ends.detach()
    assert ends.left() == []


@pytest.mark.parametrize("ends", ["tcp"], indirect=True)
def test_who_writes_waits_for_a_link_that_is_mended(ends: Ends, far: network.Namespace) -> None:
    path = ends.mounted() / "data"
    far.cut()
    mending = threading.Timer(2.0, far.mend)
    mending.start()
    with path.open("w") as stream:
        stream.write("late, and there")
        stream.flush()
        os.fsync(stream.fileno())
    mending.join()
    ends.unmount()
    assert (ends.mounted() / "data").read_text() == "late, and there"


def aligned(size: int) -> memoryview:
    """Memory for direct I/O."""
    return memoryview(mmap.mmap(-1, size))


def test_what_is_written_to_the_device_is_in_the_volume_block_by_block(ends: Ends) -> None:
    device = ends.attach()
    assert stat.S_ISBLK(device.path.stat().st_mode)
    random = Random(4)
    wanted: dict[int, bytes] = {}
    descriptor = os.open(device.path, os.O_RDWR | os.O_DIRECT)
    try:
        assert os.lseek(descriptor, 0, os.SEEK_END) == _BYTES
        memory = aligned(256 * _BLOCK)
        for _ in range(40):
            count = random.choice([1, 2, 31, 256])
            first = random.randrange(_BYTES // _BLOCK - count)
            memory[: count * _BLOCK] = data = random.randbytes(count * _BLOCK)
            assert os.pwrite(descriptor, memory[: count * _BLOCK], first * _BLOCK) == count * _BLOCK
            wanted |= {first + n: data[n * _BLOCK : (n + 1) * _BLOCK] for n in range(count)}
        os.fsync(descriptor)
        # What was synced is in the file, not only in a daemon: direct reads pass by its cache.
        file = os.open(ends.file, os.O_RDONLY | os.O_DIRECT)
        for source in (file, descriptor):
            for block, data in wanted.items():
                assert os.preadv(source, [memory[:_BLOCK]], block * _BLOCK) == _BLOCK
                assert memory[:_BLOCK] == data, f"block {block}"
        os.close(file)
    finally:
        os.close(descriptor)
    written = {hashlib.sha256(data).digest() for data in wanted.values()}
    with ends.file.open("rb") as stream:  # and nothing else is anywhere
        for begin, end in data_ranges(stream.fileno(), _BYTES):
            for place in range(begin, end, _BLOCK):
                data = os.pread(stream.fileno(), _BLOCK, place)
                assert not data.strip(b"\0") or hashlib.sha256(data).digest() in written, f"at {place}"


def test_every_step_can_be_repeated_and_the_key_is_nowhere_to_be_read(ends: Ends) -> None:
    found = {ends.attach() for _ in range(3)}
    assert len({one.path for one in found}) == 1 == len(ends.daemons("qemu-storage-daemon"))
    own = devices.own_directory(ends.directory, ends.claim)
    assert stat.S_IMODE(own.stat().st_mode) == 0o700
    for path in own.glob("*"):
        if path.is_file():
            assert ends.secret.encode() not in path.read_bytes(), path
    for one in ends.place.daemons():
        assert ends.secret not in str(one.argv)
        assert ends.secret.encode() not in Path(f"/proc/{one.pid}/environ").read_bytes()
    for _ in range(3):
        ends.detach()
    assert ends.left() == []


@pytest.mark.parametrize("kind", ["ext4", "xfs", "btrfs"])
def test_a_file_system_of_each_kind(ends: Ends, kind: str) -> None:
    data = os.urandom(5 * _MIB)
    (ends.mounted(RW, kind) / "data").write_bytes(data)
    ends.unmount()
    assert ends.left() == []
    ends.disconnect()
    ends.connection = str(uuid.uuid4())
    assert (ends.mounted(RO, None) / "data").read_bytes() == data
    with pytest.raises(OSError, match="Read-only file system"):
        (ends.mount / "data").write_bytes(b"")


def test_a_volume_that_grew_is_mounted_all_the_while_and_larger_at_the_next_mount(ends: Ends) -> None:
    (ends.mounted() / "before").write_text("kept")
    os.truncate(ends.file, 2 * _BYTES)
    ends.export(lambda export: export.resized(ends.volume_id, ends.file))
    (ends.mount / "after").write_bytes(bytes(_MIB))
    with (ends.mount / "after").open("rb") as stream:
        os.fsync(stream.fileno())
    ends.unmount()
    device = ends.attach()
    with device.path.open("rb") as stream:
        assert stream.seek(0, os.SEEK_END) == 2 * _BYTES
    assert (ends.mounted() / "before").read_text() == "kept"


def test_the_exports_daemons_may_die_and_come_back_under_a_mounted_volume(ends: Ends) -> None:
    path = ends.mounted() / "data"
    path.write_text("before")
    ends.kill_export()

    def write() -> None:
        path.write_text("after")
        subprocess.run(["sync", "--file-system", str(ends.mount)], check=True)

    writer = threading.Thread(target=write)
    writer.start()
    ends.connect()  # what the conductor does within its reconcile period
    with path.open("r+") as stream:
        stream.write("later")
        os.fsync(stream.fileno())
    writer.join(30)
    assert path.read_text() == "later"
    ends.unmount()
    assert (ends.mounted() / "data").read_text() == "later"


def test_an_export_that_is_gone_gives_errors_in_time_and_can_be_left(
    ends: Ends, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nbd_device, "_AWAY_SECONDS", 1)
    path = ends.mounted() / "data"
    path.write_text("before")
    ends.kill_export()
    began = time.monotonic()
    with pytest.raises(OSError, match=_ERRORS), path.open("w") as stream:
        stream.write("lost")
        stream.flush()
        os.fsync(stream.fileno())
    assert time.monotonic() - began < 30
    with pytest.raises(LostWritesError, match="not all that was written last"):
        ends.unmount()
    ends.detach()
    assert time.monotonic() - began < 60
    assert ends.left() == []


@pytest.mark.parametrize("victim", ["qemu-storage-daemon", "nbdfuse"])
@pytest.mark.parametrize("is_mounted_then", [False, True])
def test_a_process_of_the_consumers_end_dies(ends: Ends, victim: str, is_mounted_then: bool) -> None:
    if is_mounted_then:
        (ends.mounted() / "data").write_text("x")
        subprocess.run(["sync", "--file-system", str(ends.mount)], check=True)
    else:
        ends.attach()
    for pid in ends.daemons(victim):
        os.kill(pid, signal.SIGKILL)
    if is_mounted_then:
        try:
            ends.unmount()
        except LostWritesError:
            ends.detach()
    else:
        device = ends.attach()  # as good as new
        with device.path.open("rb") as stream:
            assert len(stream.read(_MIB)) == _MIB
        for pid in ends.daemons(victim):
            os.kill(pid, signal.SIGKILL)
        ends.detach()
    assert ends.left() == []
    ends.mounted()


def test_what_a_claim_left_is_cleared_by_its_file_alone(ends: Ends) -> None:
    (ends.mounted() / "data").write_text("kept")
    (ends.directory / "claims").mkdir()
    (ends.directory / "claims" / f"{ends.claim}.json").write_text("{}")
    assert clearing.clear(ends.directory) == []
    (ends.directory / "claims" / f"{ends.claim}.json").unlink()
    assert (ends.left(), is_mounted(ends.mount)) == ([], False)
    assert (ends.mounted() / "data").read_text() == "kept"


def test_the_end_of_an_instance_keeps_what_its_tasks_wrote_last(ends: Ends, monkeypatch: pytest.MonkeyPatch) -> None:
    state_dir = ends.place.directory / "state"
    ends.directory = node_directory(state_dir)
    ends.mount = mount_point(ends.directory, ends.claim)
    ends.connect()  # the export's end is another instance's
    monkeypatch.setenv(processes.MARK, mark_of(state_dir))
    data = os.urandom(5 * _MIB)
    (ends.mounted() / "data").write_bytes(data)
    (ends.directory / "claims").mkdir()
    claim = ends.directory / "claims" / f"{ends.claim}.json"
    claim.write_text("{}")
    assert release(state_dir) == []
    assert processes.of_instance(mark_of(state_dir)) == []
    claim.unlink()
    assert ends.left() == []
    monkeypatch.setenv(processes.MARK, ends.place.mark)
    assert (ends.mounted() / "data").read_bytes() == data


def test_a_front_that_mounts_between_the_look_and_the_removal_is_unmounted(
    ends: Ends, monkeypatch: pytest.MonkeyPatch
) -> None:
    ends.attach()
    looks = itertools.count()
    monkeypatch.setattr(nbd_device, "mounted_at", lambda path: filesystems.mounted_at(path) if next(looks) else None)
    ends.detach()
    assert ends.left() == []
    assert next(looks) > 1


def test_a_device_that_somebody_has_open_stays_and_is_said(ends: Ends, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nbd_device, "_VANISH_SECONDS", 0.3)
    device = ends.attach()
    with device.path.open("rb"), pytest.raises(AttachError, match=f"{device.path} is still open"):
        ends.detach()
    ends.detach()
    assert ends.left() == []


def test_an_export_that_does_not_exist_leaves_nothing(ends: Ends) -> None:
    told = ends.connect()
    ends.disconnect()
    with pytest.raises(AttachError, match="qemu-storage-daemon"):
        devices.ensure(ends.directory, ends.claim, "nbd", told, RW)
    with pytest.raises(AttachError, match="did not say 'export'"):
        devices.ensure(ends.directory, ends.claim, "nbd", {key: told[key] for key in told if key != "export"}, RW)
    ends.detach()
    assert ends.left() == []
    ends.connect()


def test_the_wrong_key_does_not_get_in(ends: Ends) -> None:
    ends.transport = "tcp"
    told = ends.connect()
    with pytest.raises(AttachError, match="qemu-storage-daemon"):
        devices.ensure(ends.directory, ends.claim, "nbd", {**told, "psk_key": os.urandom(32).hex()}, RW)
    assert not list(devices.own_directory(ends.directory, ends.claim).glob("*.psk"))
