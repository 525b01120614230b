"""The bytes on disk: what is written into a volume's file is what its snapshots, clones and larger selves hold."""

from __future__ import annotations

import os
import random
import shutil
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration import disk
from tests.integration.clients import Cloud, eventually, project_of
from tests.integration.conftest import Service
from tests.integration.disk import BLOCK, GIB

_MIB = 1 << 20


@pytest.fixture(scope="module")
def cloud(service: Service) -> Iterator[Cloud]:
    """A project for this module."""
    with project_of(service, "bytes") as one:
        yield one


def _fill(cloud: Cloud, volume_id: str, seed: int, megabytes: int = 8) -> dict[int, str]:
    """Write pseudo-random data all over the volume; what is in it then."""
    chance = random.Random(seed)
    path = disk.volume_file(cloud.service, volume_id)
    size = path.stat().st_size
    for offset in [
        0,
        size - BLOCK,
        *(chance.randrange(size // BLOCK) * BLOCK for _ in range(megabytes * _MIB // BLOCK)),
    ]:
        disk.write(path, offset, chance.randbytes(BLOCK))
    disk.write(path, BLOCK + 4097, b"not at a border")
    return disk.blocks(path)


def _free(cloud: Cloud) -> int:
    status = os.statvfs(disk.pool(cloud.service))
    return status.f_bavail * status.f_frsize


def test_a_new_volume_is_a_sparse_private_file_of_its_size(cloud: Cloud) -> None:
    volume = cloud.create(3)
    status = disk.volume_file(cloud.service, volume["id"]).stat()
    assert status.st_size == 3 * GIB
    assert status.st_blocks * 512 < _MIB
    assert stat.S_IMODE(status.st_mode) == 0o600
    assert disk.blocks(disk.volume_file(cloud.service, volume["id"])) == {}


def test_extend_keeps_the_content_and_adds_zeros(cloud: Cloud) -> None:
    volume = cloud.create(1)
    path = disk.volume_file(cloud.service, volume["id"])
    before = _fill(cloud, volume["id"], seed=1)
    answer = cloud.call("POST", f"/volumes/{volume['id']}/action", {"os-extend": {"new_size": 3}})
    assert answer.status_code == 202, answer.text
    assert cloud.settled("volumes", volume["id"])["size"] == 3
    assert path.stat().st_size == 3 * GIB
    assert disk.blocks(path) == before


def test_a_snapshot_keeps_what_was_there(cloud: Cloud) -> None:
    volume = cloud.create(1)
    path = disk.volume_file(cloud.service, volume["id"])
    before = _fill(cloud, volume["id"], seed=2)
    snapshot = cloud.snapshot(volume["id"])
    kept = disk.snapshot_file(cloud.service, snapshot["id"])
    assert disk.blocks(kept) == before
    assert stat.S_IMODE(kept.stat().st_mode) == 0o400

    after = _fill(cloud, volume["id"], seed=3)
    disk.write(path, 0, b"\0" * BLOCK)
    assert after != before
    assert disk.blocks(kept) == before

    restored = cloud.create(2, snapshot_id=snapshot["id"])
    assert disk.volume_file(cloud.service, restored["id"]).stat().st_size == 2 * GIB
    assert disk.blocks(disk.volume_file(cloud.service, restored["id"])) == before
    _fill(cloud, restored["id"], seed=4)
    assert disk.blocks(kept) == before


def test_a_clone_and_its_source_go_their_own_ways(cloud: Cloud) -> None:
    source = cloud.create(1)
    before = _fill(cloud, source["id"], seed=5)
    clone = cloud.create(1, source_volid=source["id"])
    assert disk.blocks(disk.volume_file(cloud.service, clone["id"])) == before
    of_clone = _fill(cloud, clone["id"], seed=6)
    assert disk.blocks(disk.volume_file(cloud.service, source["id"])) == before
    of_source = _fill(cloud, source["id"], seed=7)
    assert disk.blocks(disk.volume_file(cloud.service, clone["id"])) == of_clone
    cloud.delete("volumes", source["id"])
    assert disk.blocks(disk.volume_file(cloud.service, clone["id"])) == of_clone != of_source


def test_a_chain_of_copies_outlives_its_beginning(cloud: Cloud) -> None:
    first = cloud.create(1)
    before = _fill(cloud, first["id"], seed=8)
    point = cloud.snapshot(first["id"])
    second = cloud.create(1, snapshot_id=point["id"])
    third = cloud.create(1, source_volid=second["id"])
    cloud.delete("snapshots", point["id"])
    cloud.delete("volumes", first["id"])
    cloud.delete("volumes", second["id"])
    assert disk.blocks(disk.volume_file(cloud.service, third["id"])) == before


def test_deletes_remove_the_files_and_free_the_room(cloud: Cloud) -> None:
    cloud.purge()
    free = _free(cloud)
    volume = cloud.create(1)
    _fill(cloud, volume["id"], seed=9, megabytes=48)
    snapshot = cloud.snapshot(volume["id"])
    assert free - _free(cloud) > 40 * _MIB
    cloud.delete("snapshots", snapshot["id"])
    assert not disk.snapshot_file(cloud.service, snapshot["id"]).exists()
    cloud.delete("volumes", volume["id"])
    assert not any(volume["id"] in name or snapshot["id"] in name for name in disk.files(cloud.service))
    eventually(lambda: free - _free(cloud) < 8 * _MIB, "the room is free again")


def test_cascade_removes_volume_and_snapshots(cloud: Cloud) -> None:
    volume = cloud.create(1)
    snapshots = [cloud.snapshot(volume["id"])["id"] for _ in range(2)]
    answer = cloud.call("DELETE", f"/volumes/{volume['id']}?cascade=true")
    assert answer.status_code == 202, answer.text
    cloud.gone("volumes", volume["id"])
    assert not any(item in name for name in disk.files(cloud.service) for item in (volume["id"], *snapshots))
    assert [cloud.call("GET", f"/snapshots/{item}").status_code for item in snapshots] == [404, 404]


def test_copies_share_their_extents(cloud: Cloud) -> None:
    """Root has a pool on an XFS of its own, where a copy costs nothing; others have what the directory stands on."""
    mount = next(
        (
            line.partition(" - ")[2].split()[0]
            for line in Path("/proc/self/mountinfo").read_text(encoding="utf-8").splitlines()
            if line.split()[4] == str(disk.pool(cloud.service))
        ),
        None,
    )
    pools = cloud.call("GET", "/scheduler-stats/get_pools?detail=true").json()["pools"]
    remark = pools[0]["capabilities"]["own_file_system"]
    if os.geteuid() != 0:
        assert mount is None
        assert remark != ""
        return
    assert mount == "xfs"
    assert remark.startswith("mounted from")
    volume = cloud.create(1)
    _fill(cloud, volume["id"], seed=10, megabytes=32)
    before = _free(cloud)
    snapshot = cloud.snapshot(volume["id"])
    clone = cloud.create(1, source_volid=volume["id"])
    assert before - _free(cloud) < 8 * _MIB
    assert shutil.which("filefrag"), "filefrag is missing: apt-get install e2fsprogs"
    for path in (
        disk.volume_file(cloud.service, volume["id"]),
        disk.snapshot_file(cloud.service, snapshot["id"]),
        disk.volume_file(cloud.service, clone["id"]),
    ):
        listed = subprocess.run(["filefrag", "-v", str(path)], capture_output=True, text=True, timeout=30, check=True)
        # Room that is merely set aside around the data ("unwritten") belongs to one file.
        extents = [
            line for line in listed.stdout.splitlines() if line.strip()[:1].isdigit() and "unwritten" not in line
        ]
        assert extents
        assert all("shared" in line for line in extents), listed.stdout
