"""The epoch's mark: there before the pool is full, obeyed without room, and never under another pool's mount point."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from drivers.reflink.backend import ReflinkBackend
from drivers.reflink.epoch import EPOCH_NAME
from drivers.vocabulary import BackendUnavailableError, StaleEpochError, VolumeSpec
from tests.conformance.reflink_harness import Ext4Harness, FileHarness, XfsHarness, fill

Ids = Callable[[], str]


@pytest.fixture(params=[XfsHarness, Ext4Harness], ids=lambda harness: harness.name)
def in_place(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[FileHarness]:
    """File systems that overwrite in place."""
    harness: FileHarness = request.param()
    try:
        harness.start(tmp_path_factory.mktemp("epoch"))
        harness.renew()
        yield harness
    finally:
        harness.stop()


async def test_a_full_pool_remembers_its_first_epoch(in_place: FileHarness, new_id: Ids) -> None:
    backend = in_place.backend()
    await backend.open()
    assert int((in_place.directory / EPOCH_NAME).read_text()) == 0
    volume = VolumeSpec(new_id(), 1)
    await backend.ensure_volume("pool", volume)
    fill(in_place.mount_point)
    await backend.admit(9)
    await backend.ensure_volume_absent("pool", volume.id)
    await backend.close()
    again = in_place.backend()
    await again.open()
    with pytest.raises(StaleEpochError, match="pool pool obeys epoch 9, not 8"):
        await again.admit(8)
    await again.admit(10)
    assert await again.inventory() == []
    await again.close()


def _without_room(monkeypatch: pytest.MonkeyPatch, call: str, number: int) -> None:
    """`os.open` of the mark, or `os.pwrite` (which nothing but marks and the lock's pid use), finds no room."""
    real = getattr(os, call)

    def refuse(target: object, *arguments: object, **options: object) -> object:
        if call == "pwrite" or Path(str(target)).name == EPOCH_NAME:
            raise OSError(number, os.strerror(number), str(target))
        return real(target, *arguments, **options)

    monkeypatch.setattr(os, call, refuse)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
@pytest.mark.parametrize("call", ["open", "pwrite"])
async def test_without_room_for_a_mark_it_is_obeyed_all_the_same(
    tmp_path: Path, new_id: Ids, monkeypatch: pytest.MonkeyPatch, call: str, number: int
) -> None:
    """A pool begun before there were marks, now full."""
    backend = ReflinkBackend(tmp_path, "pool")
    await backend.open()
    volume = VolumeSpec(new_id(), 1)
    await backend.ensure_volume("pool", volume)
    await backend.close()
    (tmp_path / EPOCH_NAME).unlink()
    with monkeypatch.context() as full:
        _without_room(full, call, number)
        await backend.open()
        await backend.admit(9)
        await backend.ensure_volume_absent("pool", volume.id)
    assert await backend.inventory() == []
    await backend.admit(10)
    assert int((tmp_path / EPOCH_NAME).read_text()) == 10
    await backend.close()


async def test_a_mark_that_cannot_be_written_for_another_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend = ReflinkBackend(tmp_path, "pool")
    await backend.open()
    with monkeypatch.context() as broken:
        _without_room(broken, "pwrite", errno.EIO)
        with pytest.raises(BackendUnavailableError, match="marking epoch 9 in pool pool: Input/output error"):
            await backend.admit(9)
    await backend.admit(9)
    (tmp_path / EPOCH_NAME).write_text("nine")
    with pytest.raises(BackendUnavailableError, match="holds no number"):
        await backend.admit(10)
    await backend.close()


async def test_no_mark_is_left_where_the_pool_was(tmp_path: Path) -> None:
    directory = tmp_path / "pool"
    backend = ReflinkBackend(directory, "pool")
    await backend.open()
    directory.rename(tmp_path / "elsewhere")
    directory.mkdir()
    with pytest.raises(BackendUnavailableError, match="no longer at"):
        await backend.admit(9)
    assert list(directory.iterdir()) == []
    await backend.close()
