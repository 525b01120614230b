"""The consumer's side: devices and file systems of claims, with real loop devices, mkfs, and mount. Needs root."""

from __future__ import annotations

import errno
import struct
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from actors.node_claims import node_directory
from drivers.attach import clearing, devices, filesystems
from drivers.attach.clearing import mount_point
from drivers.attach.contents import BlockDevice
from drivers.attach.filesystems import (
    BlankDeviceError,
    BusyError,
    ForeignDataError,
    LostWritesError,
    ensure_unmounted,
    is_mounted,
    kind_of,
)
from drivers.attach.programs import AttachError
from drivers.exports import loop_device
from drivers.exports.short_names import shorten
from drivers.vocabulary import AccessMode

RW, RO = AccessMode.READ_WRITE, AccessMode.READ_ONLY
_VOLUME_BYTES = 512 << 20  # mkfs.xfs wants 300 MiB


class Node:
    """A node's directory, a volume's file, and one claim on it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.claim = str(uuid.uuid4())
        self.file = directory / "volume"
        with self.file.open("wb") as stream:
            stream.truncate(_VOLUME_BYTES)
        self.place = mount_point(directory, self.claim)

    def device(self, mode: AccessMode = RW) -> BlockDevice:
        return devices.ensure(self.directory, self.claim, "local", {"device_path": str(self.file)}, mode)

    def mount(self, device: BlockDevice, mode: AccessMode, make: str | None) -> None:
        scratch = devices.scratch_file(self.directory, self.claim)
        filesystems.ensure_mounted(device, self.place, mode, make, scratch)

    def loops(self) -> list[str]:
        """Loop devices over anything of this node."""
        return [one.backing for one in loop_device.bound() if one.backing.startswith(str(self.directory))]

    def leave(self) -> None:
        ensure_unmounted(self.place)
        devices.ensure_absent(self.directory, self.claim)


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    found = Node(tmp_path)
    yield found
    found.leave()
    assert found.loops() == []
    assert str(tmp_path) not in Path("/proc/self/mountinfo").read_text()


@pytest.mark.parametrize("kind", ["ext4", "xfs", "btrfs"])
def test_a_blank_volume_gets_a_file_system_and_keeps_what_is_written(node: Node, kind: str) -> None:
    device = node.device()
    assert kind_of(device) is None
    node.mount(device, RW, kind)
    (node.place / "text").write_text(kind)
    node.leave()
    assert (node.loops(), node.place.exists()) == ([], False)
    device = node.device()
    assert kind_of(device) == kind
    node.mount(device, RW, "ext4")
    assert (node.place / "text").read_text() == kind


@pytest.mark.parametrize("kind", ["ext4", "xfs", "btrfs"])
def test_read_only_is_kept_by_the_device_and_the_mount(node: Node, kind: str) -> None:
    node.mount(node.device(), RW, kind)
    (node.place / "text").write_text("kept")
    node.leave()
    before = node.file.read_bytes()
    device = node.device(RO)
    node.mount(device, RO, None)
    assert (node.place / "text").read_text() == "kept"
    with pytest.raises(OSError, match="Read-only file system"):
        (node.place / "text").write_text("changed")
    assert Path(f"/sys/block/{device.path.name}/ro").read_text() == "1\n"
    node.leave()
    assert node.file.read_bytes() == before


def test_a_blank_volume_is_not_formatted_for_a_reader(node: Node) -> None:
    with pytest.raises(BlankDeviceError, match="the volume is empty"):
        node.mount(node.device(RO), RO, "ext4")
    with pytest.raises(BlankDeviceError, match="the volume is empty"):
        node.mount(node.device(), RW, None)
    assert not node.file.read_bytes().strip(b"\0")


@pytest.mark.parametrize("offset", [0, 700, _VOLUME_BYTES // 2, _VOLUME_BYTES - 4096], ids=str)
def test_data_without_a_file_system_is_refused_and_untouched(node: Node, offset: int) -> None:
    with node.file.open("r+b") as stream:
        stream.seek(offset)
        stream.write(b"a database's own format")
    before = node.file.read_bytes()
    with pytest.raises(ForeignDataError, match="to keep it"):
        node.mount(node.device(), RW, "ext4")
    assert node.file.read_bytes() == before


def test_what_is_no_file_system_of_ours_is_refused_and_untouched(node: Node) -> None:
    subprocess.run(["mkswap", "-q", str(node.file)], check=True)
    before = node.file.read_bytes()
    with pytest.raises(ForeignDataError, match="swap"):
        node.mount(node.device(), RW, "ext4")
    assert node.file.read_bytes() == before


def test_a_partition_table_is_refused_and_untouched(node: Node) -> None:
    with node.file.open("r+b") as stream:  # one entry of type Linux, and the signature
        stream.seek(446)
        stream.write(struct.pack("<B3sB3sII", 0, b"\0\x20\x21", 0x83, b"\0\0\0", 2048, 2048))
        stream.seek(510)
        stream.write(b"\x55\xaa")
    before = node.file.read_bytes()
    with pytest.raises(ForeignDataError):
        node.mount(node.device(), RW, "ext4")
    assert node.file.read_bytes() == before


def test_an_unknown_file_system_is_not_made(node: Node) -> None:
    with pytest.raises(AttachError, match="choose ext4"):
        node.mount(node.device(), RW, "vfat")


def test_every_step_can_be_repeated(node: Node) -> None:
    found = {node.device() for _ in range(3)}
    assert len(found) == 1 == len(node.loops())
    [device] = found
    for _ in range(3):
        node.mount(device, RW, "ext4")
    mounts = [line for line in Path("/proc/self/mountinfo").read_text().splitlines() if f" {node.place} " in line]
    assert len(mounts) == 1
    for _ in range(3):
        node.leave()


def test_a_busy_mount_stays_and_says_which_process_it_is(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(filesystems, "_UNMOUNT_SECONDS", 0.3)
    node.mount(node.device(), RW, "ext4")
    told = "import sys, time; file = open(sys.argv[1], 'w'); print(1, flush=True); time.sleep(60)"
    user = subprocess.Popen([sys.executable, "-c", told, str(node.place / "open")], stdout=subprocess.PIPE)
    assert user.stdout is not None
    user.stdout.readline()
    with pytest.raises(BusyError, match=f"process {user.pid}; close them"):
        ensure_unmounted(node.place)
    assert is_mounted(node.place)
    user.kill()
    user.wait()
    user.stdout.close()
    ensure_unmounted(node.place)
    assert not is_mounted(node.place)


def test_what_a_claim_left_is_cleared_by_its_file_alone(node: Node) -> None:
    node.mount(node.device(), RW, "ext4")
    (node.directory / "claims").mkdir()
    (node.directory / "claims" / f"{node.claim}.json").write_text("{}")
    assert clearing.clear(node.directory) == []
    assert (node.loops(), is_mounted(node.place)) == ([], False)
    assert clearing.clear(node.directory) == []


def test_one_claim_that_cannot_be_cleared_does_not_keep_the_others(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    node.mount(node.device(), RW, "ext4")
    (node.directory / "claims").mkdir()
    first = "00000000-0000-0000-0000-000000000000"
    for claim in (first, node.claim):
        (node.directory / "claims" / f"{claim}.json").write_text("{}")
    absent = devices.ensure_absent

    def failing(directory: Path, claim_id: str) -> None:
        if claim_id == first:
            raise OSError(errno.EIO, "Input/output error")
        absent(directory, claim_id)

    monkeypatch.setattr(devices, "ensure_absent", failing)
    [trouble] = clearing.clear(node.directory)
    assert first in trouble
    assert "Input/output error" in trouble
    assert (node.loops(), is_mounted(node.place)) == ([], False)


def test_what_fails_in_the_system_is_told_as_a_failure_of_the_device(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing() -> list[loop_device.LoopDevice]:
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as within, pytest.raises(AttachError, match="Input/output error"):
        within.setattr(loop_device, "bound", failing)
        devices.ensure_absent(node.directory, node.claim)


def test_what_is_written_where_nothing_is_mounted_any_more_is_said_to_be_lost(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    node.mount(node.device(), RW, "ext4")
    (node.place / "kept").write_text("on the volume")
    umount = filesystems.run

    def then_a_child_writes(command: list[str], **options: Any) -> str:
        said = umount(command, **options)
        if command[0] == "umount":
            (node.place / "results" / "late").mkdir(parents=True)
            (node.place / "results" / "late" / "file").write_text("not on the volume")
        return said

    with monkeypatch.context() as within, pytest.raises(LostWritesError, match="not on it: results"):
        within.setattr(filesystems, "run", then_a_child_writes)
        ensure_unmounted(node.place)
    assert not node.place.exists()
    node.leave()
    node.mount(node.device(), RW, None)
    assert sorted(path.name for path in node.place.iterdir()) == ["kept", "lost+found"]


def test_what_somebody_mounted_in_its_place_is_not_removed(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(filesystems, "_UNMOUNT_SECONDS", 0.2)
    inner = node.place / "inner"
    inner.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "none", str(inner)], check=True)
    try:
        (inner / "text").write_text("another's")
        with pytest.raises(BusyError, match="something is mounted in"):
            ensure_unmounted(node.place)
        assert (inner / "text").read_text() == "another's"
    finally:
        subprocess.run(["umount", str(inner)], check=True)
        inner.rmdir()


@pytest.mark.parametrize("name", ["plain", "with space", "tab\tand\\backslash"])
def test_a_state_directory_behind_a_symbolic_link_is_cleared(tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir()
    (tmp_path / "link").symlink_to(tmp_path / name)
    directory = node_directory(tmp_path / "link")
    directory.mkdir()
    node = Node(directory)
    node.mount(node.device(), RW, "ext4")
    (directory / "claims").mkdir()
    (directory / "claims" / f"{node.claim}.json").write_text("{}")
    try:
        assert clearing.clear(node_directory(tmp_path / "link")) == []
        assert (node.loops(), node.place.exists()) == ([], False)
        assert "mounts/" + node.claim not in Path("/proc/self/mountinfo").read_text()
    finally:
        subprocess.run(["umount", str(node.place)], capture_output=True, check=False)
        devices.ensure_absent(node.directory, node.claim)


def test_another_claims_device_is_left_alone(node: Node) -> None:
    node.device()
    devices.ensure_absent(node.directory, str(uuid.uuid4()))
    assert node.loops() == [str(node.file)]


def test_other_exports_are_refused_in_words(node: Node) -> None:
    with pytest.raises(AttachError, match="'iscsi' cannot be mounted by tasks, those of local and nbd can"):
        devices.ensure(node.directory, node.claim, "iscsi", {}, RW)


def test_a_number_of_a_device_that_was_given_to_another_is_refused(node: Node) -> None:
    volume, other = str(uuid.uuid4()), str(uuid.uuid4())
    one = loop_device.bind(node.file, f"pm0123456789ab.{shorten(str(uuid.uuid4()))}{shorten(volume)}", read_only=False)
    try:
        told = {"device_path": str(one.path), "volume_id": volume}
        assert devices.ensure(node.directory, node.claim, "local", told, RW).path == one.path
        with pytest.raises(AttachError, match=f"is no device of volume {other} any more"):
            devices.ensure(node.directory, node.claim, "local", {**told, "volume_id": other}, RW)
    finally:
        assert loop_device.unbind(one, 5.0)
    with pytest.raises(AttachError, match="any more"):
        devices.ensure(node.directory, node.claim, "local", told, RW)
