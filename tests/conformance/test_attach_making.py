"""The first file system of a volume is made whole or anew: the power is cut at the writes of its making, and in the
midst of them. Real devices, `mkfs`, and mounts. Needs root."""

from __future__ import annotations

import os
import struct
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

import pytest

from drivers.attach import devices, filesystems, making
from drivers.attach.clearing import mount_point
from drivers.attach.contents import BlockDevice
from drivers.attach.filesystems import BlankDeviceError, ForeignDataError, ensure_unmounted, kind_of
from drivers.attach.programs import AttachError
from drivers.exports import loop_device
from drivers.vocabulary import AccessMode

RW, RO = AccessMode.READ_WRITE, AccessMode.READ_ONLY
_BYTES = 320 << 20  # mkfs.xfs wants 300 MiB
_SECTOR = 512


@dataclass
class Making:
    """What reached a device, in order: writes, and between them the flushes (None)."""

    events: list[tuple[int, bytes] | None] = field(default_factory=list)

    def cut(self, point: int, random: Random) -> list[tuple[int, bytes]]:
        """What a cut of the power after `point` events may leave: all that was flushed, and any sectors of the rest."""
        done = self.events[:point]
        flushed = max((number for number, event in enumerate(done) if event is None), default=0)
        kept = [event for event in done[:flushed] if event is not None]
        for event in done[flushed:]:
            if event is not None:
                place, content = event
                sectors = [sector for sector in range(0, len(content), _SECTOR) if random.random() < 0.5]
                kept += [(place + sector, content[sector : sector + _SECTOR]) for sector in sectors]
        return kept


class Volume:
    def __init__(self, directory: Path) -> None:
        self.directory, self.file = directory, directory / "volume"
        self.claim = str(uuid.uuid4())
        self.place = mount_point(directory, self.claim)
        self.scratch = devices.scratch_file(directory, self.claim)

    def holds(self, writes: list[tuple[int, bytes]]) -> None:
        """It was empty, and these came."""
        with self.file.open("wb") as stream:
            stream.truncate(_BYTES)
            for place, content in writes:
                stream.seek(place)
                stream.write(content)

    def device(self, mode: AccessMode = RW) -> BlockDevice:
        return devices.ensure(self.directory, self.claim, "local", {"device_path": str(self.file)}, mode)

    def mount(self, make: str | None, mode: AccessMode = RW) -> None:
        filesystems.ensure_mounted(self.device(mode), self.place, mode, make, self.scratch)

    def leave(self) -> None:
        ensure_unmounted(self.place)
        devices.ensure_absent(self.directory, self.claim)


@pytest.fixture
def volume(tmp_path: Path) -> Iterator[Volume]:
    one = Volume(tmp_path)
    one.holds([])
    yield one
    one.leave()
    assert [str(path) for path in (tmp_path / "devices").glob("*")] == []
    assert [one.backing for one in loop_device.bound() if one.backing.startswith(str(tmp_path))] == []


@pytest.fixture
def recorded(monkeypatch: pytest.MonkeyPatch) -> Making:
    """Whatever is made within the test."""
    one = Making()
    write, sync = making._write, os.fsync

    def told_write(target: int, content: bytes, place: int) -> None:
        one.events.append((place, content))
        write(target, content, place)

    def told_sync(target: int) -> None:
        one.events.append(None)
        sync(target)

    monkeypatch.setattr(making, "_write", told_write)
    monkeypatch.setattr(making.os, "fsync", told_sync)
    return one


@pytest.mark.parametrize("kind", ["ext4", "xfs", "btrfs"])
def test_wherever_the_power_is_cut_the_next_mount_makes_it_or_finds_it_whole(
    volume: Volume, kind: str, recorded: Making
) -> None:
    volume.mount(kind)
    volume.leave()
    made = Making(list(recorded.events))
    last = len(made.events)
    assert made.events[-1] is None
    assert made.events[-2] is not None
    assert made.events[-2][0] == 0
    assert last > 8
    random = Random(kind)
    outcomes = {"blank": 0, "torn": 0, "whole": 0}
    for point in sorted(
        {*range(1, 5), *random.sample(range(5, last - 3), min(8, last - 8)), *range(last - 3, last + 1)}
    ):
        for _ in range(4 if point == last - 1 else 1):
            volume.holds(made.cut(point, random))
            device = volume.device()
            found, is_torn = kind_of(device), making.is_torn(device.path)
            outcomes["whole" if found else "torn" if is_torn else "blank"] += 1
            assert (found == kind) if point == last else not (found and is_torn)
            another = random.choice(["ext4", "xfs", "btrfs"]) if found is None else kind
            volume.mount(another)
            (volume.place / "text").write_text(kind)
            volume.leave()
            volume.mount(None, RO)
            assert (volume.place / "text").read_text() == kind
            volume.leave()
    print(kind, last, "events:", outcomes)
    assert outcomes["torn"] > 8
    assert outcomes["whole"] >= 1


def test_a_torn_volume_counts_as_empty_for_a_reader_and_is_left_as_it_is(volume: Volume, recorded: Making) -> None:
    volume.mount("ext4")
    volume.leave()
    volume.holds(recorded.cut(len(recorded.events) - 3, Random(1)))
    before = volume.file.read_bytes()
    for make, mode in ((None, RW), ("ext4", RO)):
        with pytest.raises(BlankDeviceError, match="the volume is empty"):
            volume.mount(make, mode)
        volume.leave()
    assert volume.file.read_bytes() == before


@pytest.mark.parametrize("kind", ["ext4", "xfs", "btrfs"])
def test_a_torn_volume_that_another_consumer_has_used_is_refused_and_untouched(
    volume: Volume, recorded: Making, kind: str
) -> None:
    volume.mount(kind)
    volume.leave()
    volume.holds(recorded.cut(len(recorded.events) - 5, Random(1)))
    assert making.is_torn(volume.device().path)
    volume.leave()
    with volume.file.open("r+b") as stream:  # one entry of type Linux, the signature, and a database in the partition
        stream.write(bytes(446) + struct.pack("<B3sB3sII", 0, b"\0\x20\x21", 0x83, b"\0\0\0", 2048, 2048))
        stream.write(bytes(48) + b"\x55\xaa")
        stream.seek(2048 * _SECTOR)
        stream.write(b"a database's own format")
    before = volume.file.read_bytes()
    with pytest.raises(ForeignDataError, match="to keep it"):
        volume.mount("ext4")
    volume.leave()
    assert volume.file.read_bytes() == before


@pytest.mark.parametrize("kind", ["missing", "xfs"])
def test_a_file_system_that_cannot_be_made_leaves_the_volume_empty(
    volume: Volume, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if kind == "missing":
        monkeypatch.setitem(making.MAKERS, kind, ["mkfs.no-such-program"])
    os.truncate(volume.file, 16 << 20)  # too small for XFS
    with pytest.raises(AttachError, match=r"not installed|mkfs\.xfs"):
        volume.mount(kind)
    volume.leave()
    assert not volume.file.read_bytes().strip(b"\0")
    assert volume.file.stat().st_blocks == 0


def test_what_a_torn_volume_held_takes_no_room_when_it_is_made_anew(volume: Volume, recorded: Making) -> None:
    volume.mount("ext4")
    volume.leave()
    made = volume.file.stat().st_blocks
    volume.holds([(0, making.MARK), *((place, os.urandom(1 << 20)) for place in range(64 << 20, _BYTES, 4 << 20))])
    volume.mount("ext4")
    volume.leave()
    assert volume.file.stat().st_blocks < 2 * made


@pytest.mark.parametrize("place", [making.FRONT_BYTES, 64 << 10, _BYTES - making.FRONT_BYTES], ids=str)
def test_what_somebody_wrote_that_looks_like_it_elsewhere_is_data(volume: Volume, place: int) -> None:
    volume.holds([(place, making.MARK * 8)])
    before = volume.file.read_bytes()
    with pytest.raises(ForeignDataError, match="to keep it"):
        volume.mount("ext4")
    volume.leave()
    assert volume.file.read_bytes() == before


@pytest.mark.parametrize("kind", ["ext4", "xfs", "btrfs"])
def test_no_file_of_a_mounted_volume_can_be_where_the_mark_is(volume: Volume, kind: str) -> None:
    volume.mount(kind)
    for number in range(3):
        with (volume.place / str(number)).open("wb") as stream:
            while True:
                try:
                    stream.write(making.MARK * 2048)
                except OSError:  # it is full
                    break
            stream.raw.close()
    volume.leave()
    assert kind_of(volume.device()) == kind
