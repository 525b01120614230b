"""What the reflink driver promises beyond the protocol: whose directory it takes, and what it says of failures."""

from __future__ import annotations

import asyncio
import errno
import json
import multiprocessing
import os
import signal
import stat
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from drivers.pool_image import ImageGround
from drivers.reflink.backend import ReflinkBackend
from drivers.reflink.ground import GivenGround
from drivers.reflink.keyed_locks import KeyedLocks
from drivers.vocabulary import (
    BackendUnavailableError,
    BadNameError,
    FinalError,
    NoSpaceError,
    ObjectKind,
    SizeConflictError,
    SnapshotSpec,
    SourceMissingError,
    StaleEpochError,
    StorageError,
    UncertainError,
    VolumeSpec,
)
from tests.conformance.harness import Pattern
from tests.conformance.reflink_harness import Ext4Harness, Opener, ended, fill

Ids = Callable[[], str]
_PROCESSES = multiprocessing.get_context("forkserver")


def _hold(opener: Opener, held: multiprocessing.connection.Connection) -> None:
    async def run() -> None:
        await opener.backend().open()
        held.send(os.getpid())
        await asyncio.sleep(600)

    asyncio.run(run())


async def test_held_by_another_process_until_it_dies(tmp_path: Path) -> None:
    ours, theirs = _PROCESSES.Pipe()
    process = _PROCESSES.Process(target=_hold, args=(Opener(tmp_path / "pool", "pool"), theirs))
    process.start()
    try:
        assert await asyncio.to_thread(ours.poll, 60)
        pid = ours.recv()
        backend = ReflinkBackend(tmp_path / "pool", "pool")
        with pytest.raises(BackendUnavailableError, match=f"held by process {pid};"):
            await backend.open()
    finally:
        process.kill()
    assert await ended(process) == -signal.SIGKILL
    await backend.open()
    await backend.close()


async def test_a_strange_directory_is_refused_and_untouched(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(BackendUnavailableError, match=r"not empty.*thesis\.txt"):
        await ReflinkBackend(tmp_path, "pool").open()
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


@pytest.mark.parametrize("point", ["marker-written", "marker-renamed", "marked", "remembered"])
async def test_a_first_open_that_died(tmp_path: Path, point: str) -> None:
    class Died(BaseException):
        pass

    def die(passed: str) -> None:
        if passed == point:
            raise Died

    directory, identity = tmp_path / "pool", tmp_path / "identity.json"
    with pytest.raises(Died):
        await ReflinkBackend(directory, "pool", identity_file=identity, checkpoint=die).open()
    backend = ReflinkBackend(directory, "pool", identity_file=identity)
    await backend.open()
    await backend.close()
    marker = json.loads((directory / ".pumice-pool.json").read_text())
    assert marker["format"] == 1
    assert json.loads(identity.read_text())["pool_id"] == marker["pool_id"]


async def test_a_pool_that_is_not_mounted_is_not_begun_again(tmp_path: Path) -> None:
    directory, identity = tmp_path / "pool", tmp_path / "identity.json"
    backend = ReflinkBackend(directory, "pool", identity_file=identity)
    await backend.open()
    await backend.close()
    directory.rename(tmp_path / "unmounted")
    for make_empty in (False, True):
        if make_empty:
            directory.mkdir()
        with pytest.raises(BackendUnavailableError, match="gone or not mounted"):
            await backend.open()
    assert not list(directory.iterdir())
    await ReflinkBackend(directory, "pool").open()  # another pool begins there
    with pytest.raises(BackendUnavailableError, match="holds another pool"):
        await backend.open()


async def test_a_pool_that_goes_away_while_open(tmp_path: Path, new_id: Ids) -> None:
    directory = tmp_path / "pool"
    backend = ReflinkBackend(directory, "pool")
    await backend.open()
    directory.rename(tmp_path / "elsewhere")
    for call in (backend.ensure_volume("pool", VolumeSpec(new_id(), 1)), backend.inventory(), backend.pools()):
        with pytest.raises(BackendUnavailableError, match="no longer at"):
            await call
    assert not directory.exists()
    await backend.close()


async def test_a_newer_or_broken_marker(tmp_path: Path) -> None:
    marker = tmp_path / ".pumice-pool.json"
    for content, message in (
        ('{"format": 2, "pool_id": "x", "shares_extents": true}', "newer"),
        ("{", "not a pool marker"),
        ("[]", "not a pool"),
    ):
        marker.write_text(content)
        with pytest.raises(BackendUnavailableError, match=message):
            await ReflinkBackend(tmp_path, "pool").open()


async def test_leftovers_go_and_foreign_files_stay(tmp_path: Path, new_id: Ids) -> None:
    backend = ReflinkBackend(tmp_path, "pool")
    await backend.open()
    volume = VolumeSpec(new_id(), 1)
    await backend.ensure_volume("pool", volume)
    await backend.close()
    volumes = tmp_path / "volumes"
    (volumes / f".partial-volume-{new_id()}").write_bytes(b"half")
    (tmp_path / "snapshots" / f".partial-snapshot-{new_id()}").write_bytes(b"half")
    (volumes / "volume-of-mine").write_bytes(b"mine")
    await backend.open()
    by_repeat, by_deletion = (volumes / f".partial-volume-{new_id()}" for _ in range(2))
    by_repeat.write_bytes(b"half")
    by_deletion.write_bytes(b"half")
    await backend.ensure_volume("pool", VolumeSpec(by_repeat.name.removeprefix(".partial-volume-"), 1))
    await backend.ensure_volume_absent("pool", by_deletion.name.removeprefix(".partial-volume-"))
    assert volume.id in {item.id for item in await backend.inventory()}
    assert len(await backend.inventory()) == 2
    assert not list(tmp_path.rglob(".partial-*"))
    assert (volumes / "volume-of-mine").read_bytes() == b"mine"
    await backend.close()


async def test_nobody_else_reads_the_files(tmp_path: Path, new_id: Ids) -> None:
    backend = ReflinkBackend(tmp_path / "pool", "pool")
    await backend.open()
    volume = VolumeSpec(new_id(), 1)
    made = await backend.ensure_volume("pool", volume)
    taken = await backend.ensure_snapshot("pool", SnapshotSpec(new_id(), volume.id, 1))
    clone = await backend.ensure_volume_from_volume("pool", VolumeSpec(new_id(), 1), volume)
    modes = [stat.S_IMODE(Path(item.location).stat().st_mode) for item in (made, taken, clone)]
    assert modes == [0o600, 0o400, 0o600]
    assert stat.S_IMODE((tmp_path / "pool").stat().st_mode) == 0o700
    await backend.close()


@pytest.mark.parametrize(
    ("point", "number", "expected"),
    [
        ("created", errno.EIO, BackendUnavailableError),
        ("filled", errno.EROFS, BackendUnavailableError),
        ("filled", errno.ENOSPC, NoSpaceError),
        ("filled", errno.EDQUOT, NoSpaceError),
        ("synced", errno.EIO, BackendUnavailableError),
        ("renamed", errno.EIO, UncertainError),
        ("settled", errno.EIO, UncertainError),
    ],
)
async def test_what_an_error_of_the_kernel_becomes(
    tmp_path: Path, new_id: Ids, point: str, number: int, expected: type[StorageError]
) -> None:
    volume = VolumeSpec(new_id(), 1)
    broken: list[str] = []

    def fail(passed: str) -> None:
        if passed in broken:
            raise OSError(number, os.strerror(number))

    backend = ReflinkBackend(tmp_path, "pool", checkpoint=fail)
    await backend.open()
    broken.append(point)
    with pytest.raises(expected, match=volume.id):
        await backend.ensure_volume("pool", volume)
    assert not list(tmp_path.rglob(".partial-*"))
    broken.clear()
    assert (await backend.ensure_volume("pool", volume)).created is (expected is not UncertainError)
    await backend.close()


@pytest.mark.parametrize("cancelled", [False, True])
async def test_a_deletion_never_overtakes_a_copy(tmp_path: Path, new_id: Ids, cancelled: bool) -> None:
    """A copy waits for its source, which another copy reads; deleting the target meanwhile must come after it."""
    go_on, waiting = threading.Event(), threading.Event()

    made: list[str] = []

    def wait(point: str) -> None:
        made.append(point)
        if waiting.is_set() and point == "created":
            assert go_on.wait(60)

    backend = ReflinkBackend(tmp_path, "pool", checkpoint=wait)
    await backend.open()
    source, first, second = (VolumeSpec(new_id(), 1) for _ in range(3))
    await backend.ensure_volume("pool", source)
    waiting.set()
    copies = [
        asyncio.ensure_future(backend.ensure_volume_from_volume("pool", spec, source)) for spec in (first, second)
    ]
    await asyncio.sleep(0.02)
    if cancelled:
        copies[1].cancel()
    deletion = asyncio.ensure_future(backend.ensure_volume_absent("pool", second.id))
    await asyncio.sleep(0.05)
    waiting.clear()
    go_on.set()
    results = await asyncio.gather(*copies, deletion, return_exceptions=True)
    assert isinstance(results[1], asyncio.CancelledError) is cancelled
    assert made.count("created") == (2 if cancelled else 3), "a call cancelled before it began does nothing"
    assert {item.id for item in await backend.inventory()} == {source.id, first.id}
    await backend.close()


async def test_who_is_cancelled_while_waiting_lets_nobody_pass() -> None:
    locks, order, go_on = KeyedLocks(), list[str](), asyncio.Event()

    async def hold(name: str, *keys: str) -> None:
        async with locks.holding(*keys):
            order.append(f"{name} begins")
            await go_on.wait()
            order.append(f"{name} ends")

    first, second, third = (
        asyncio.ensure_future(hold(name, *keys)) for name, keys in (("1", "a"), ("2", "ab"), ("3", "b"))
    )
    fourth = asyncio.ensure_future(hold("4", "a"))
    await asyncio.sleep(0)
    second.cancel()
    await asyncio.gather(second, return_exceptions=True)
    await asyncio.sleep(0)
    assert order == ["1 begins"]
    go_on.set()
    await asyncio.gather(first, third, fourth)
    assert order[:2] == ["1 begins", "1 ends"]
    assert not locks._last


@pytest.mark.parametrize("number", [errno.EXDEV, errno.EOPNOTSUPP])
async def test_copying_without_the_kernel(
    tmp_path_factory: pytest.TempPathFactory, new_id: Ids, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def refuse(*_arguments: object) -> int:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "copy_file_range", refuse)
    harness = Ext4Harness()
    try:
        harness.start(tmp_path_factory.mktemp("ext4"))
        harness.renew()
        await _copy_without_the_kernel(harness, new_id)
    finally:
        harness.stop()


async def _copy_without_the_kernel(harness: Ext4Harness, new_id: Ids) -> None:
    backend = harness.backend()
    await backend.open()
    assert not backend.capabilities.shares_extents
    assert backend.capabilities.extra["snapshot_of_attached"] == "not-atomic"
    volume, clone, pattern = VolumeSpec(new_id(), 10), VolumeSpec(new_id(), 10), Pattern(50, 10)
    await backend.ensure_volume("pool", volume)
    await pattern.write(harness, backend, volume.id)
    observed = await backend.ensure_volume_from_volume("pool", clone, volume)
    await pattern.check(harness, backend, ObjectKind.VOLUME, clone.id)
    assert observed.allocated_bytes < 16 << 20
    await backend.close()


async def test_the_disk_fills_while_copying(tmp_path_factory: pytest.TempPathFactory, new_id: Ids) -> None:
    """There was room when the copy began: the kernel's own ENOSPC, and the partial goes."""
    harness = Ext4Harness()
    try:
        harness.start(tmp_path_factory.mktemp("ext4"))
        harness.renew()
        volume, clone = VolumeSpec(new_id(), 1), VolumeSpec(new_id(), 1)
        full = False

        def take_the_room(point: str) -> None:
            nonlocal full
            if point == "filling" and not full:
                full = True
                fill(harness.mount_point)

        backend = harness.backend(take_the_room)
        await backend.open()
        await backend.ensure_volume("pool", volume)
        for place in range(10):  # ten separate ranges, each copied by itself
            await harness.write(backend, volume.id, place * (64 << 20), os.urandom(4 << 20))
        with pytest.raises(NoSpaceError, match="full"):
            await backend.ensure_volume_from_volume("pool", clone, volume)
        assert full
        assert [path.name for path in (harness.directory / "volumes").iterdir()] == [f"volume-{volume.id}"]
        (harness.mount_point / "filler").unlink()
        assert (await backend.ensure_volume_from_volume("pool", clone, volume)).created
        with pytest.raises(NoSpaceError, match="larger than this file system"):
            await backend.ensure_volume("pool", VolumeSpec(new_id(), 20_000))
        await backend.close()
    finally:
        harness.stop()


async def test_a_ground_that_fails_is_an_error_of_the_vocabulary(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    ground = ImageGround(tmp_path / "pool.img", 1)
    with pytest.raises(BackendUnavailableError, match=r"for pool pool: Not a directory"):
        await ReflinkBackend(tmp_path / "file" / "pool", "pool", ground=ground).open()

    class Broken(GivenGround):
        number = errno.ENOSPC

        def prepare(self, directory: Path) -> None:
            if self.number:
                raise OSError(self.number, os.strerror(self.number))

        def release(self, directory: Path) -> None:
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    broken = Broken()
    backend = ReflinkBackend(tmp_path / "pool", "pool", ground=broken)
    with pytest.raises(BackendUnavailableError, match="full"):
        await backend.open()
    broken.number = 0
    await backend.open()
    with pytest.raises(BackendUnavailableError, match=r"letting go of .*Input/output error"):
        await backend.close()
    await backend.close()
    second = ReflinkBackend(tmp_path / "pool", "pool")
    await second.open()  # the failing close has let go of the pool
    await second.close()


async def test_what_tenants_can_read_names_nothing_of_the_host(tmp_path: Path, new_id: Ids) -> None:
    """Of all errors but BackendUnavailableError."""
    failing: dict[str, OSError] = {}

    def fail(point: str) -> None:
        if point in failing:
            raise failing[point]

    backend = ReflinkBackend(tmp_path, "pool", checkpoint=fail)
    await backend.open()
    volume, nothing = VolumeSpec(new_id(), 2), VolumeSpec(new_id(), 1)
    await backend.ensure_volume("pool", volume)
    await backend.admit(9)
    place = f"{tmp_path}/volumes held by process 4711"
    expected: list[tuple[type[StorageError], dict[str, OSError], Callable[[], Awaitable[object]]]] = [
        (SizeConflictError, {}, lambda: backend.ensure_volume("pool", VolumeSpec(volume.id, 1))),
        (SizeConflictError, {}, lambda: backend.ensure_size("pool", volume.id, 1)),
        (SizeConflictError, {}, lambda: backend.ensure_snapshot("pool", SnapshotSpec(new_id(), volume.id, 1))),
        (SourceMissingError, {}, lambda: backend.ensure_size("pool", nothing.id, 3)),
        (SourceMissingError, {}, lambda: backend.ensure_volume_from_volume("pool", VolumeSpec(new_id(), 1), nothing)),
        (NoSpaceError, {}, lambda: backend.ensure_volume("pool", VolumeSpec(new_id(), 1 << 40))),
        (StaleEpochError, {}, lambda: backend.admit(8)),
        (FinalError, {}, lambda: backend.ensure_volume("elsewhere", nothing)),
        (BadNameError, {}, lambda: backend.ensure_volume_absent("pool", "x")),
    ]
    for point, kind, number in (
        ("filled", NoSpaceError, errno.ENOSPC),
        ("filled", NoSpaceError, errno.EFBIG),
        ("renamed", UncertainError, errno.EIO),
    ):
        failure = {point: OSError(number, os.strerror(number), place)}
        expected.append((kind, failure, lambda: backend.ensure_volume("pool", VolumeSpec(new_id(), 1))))
    expected.append((UncertainError, {"renamed": OSError(place)}, expected[-1][2]))
    for kind, failure, call in expected:
        failing |= failure
        with pytest.raises(kind) as caught:
            await call()
        failing.clear()
        assert type(caught.value) is kind
        assert "/" not in str(caught.value).replace("Input/output", "")
        assert "held by" not in str(caught.value)
    await backend.close()
