"""Throttles in cgroups, on trees of files as the kernels of both versions show them: who gets a rule, and who refuses.

That the kernel then throttles is what `test_export_limits.py` measures.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from drivers.exports import cgroup_io
from drivers.exports.cgroup_io import Controller
from drivers.vocabulary import UNLIMITED, BackendUnavailableError, Limits

_V1 = ("read_iops", "write_iops", "read_bps", "write_bps")
LIMITS = Limits(read_iops=100, write_bytes=1 << 20)


def _controller(
    root: Path, kind: str, own: str = "0::/system.slice/x.service", chosen: Sequence[str] = ()
) -> Controller:
    options = "rw,blkio" if kind == "cgroup" else "rw"
    mounts = f"30 29 0:26 / {root} rw,relatime shared:4 - {kind} cgroup {options}\n"
    return cgroup_io.controller(f"22 1 8:1 / / rw - ext4 /dev/sda1 rw\n{mounts}", own, chosen)


@pytest.fixture
def two(tmp_path: Path) -> Path:
    """A root of version two with two cgroups that have the io controller, one of which has one below it."""
    (tmp_path / "cgroup.controllers").write_text("cpuset cpu io memory\n")
    for name in ("system.slice", "user.slice", "system.slice/ray.service"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "io.max").write_text("8:0 rbps=max wbps=max riops=7 wiops=max\n")
    return tmp_path


@pytest.fixture
def one(tmp_path: Path) -> Path:
    """A root of version one with a cgroup below it."""
    (tmp_path / "docker" / "abc").mkdir(parents=True)
    for directory in (tmp_path, tmp_path / "docker", tmp_path / "docker" / "abc"):
        for name in _V1:
            (directory / f"blkio.throttle.{name}_device").write_text("8:0 7\n")
    return tmp_path


def test_version_two_limits_every_cgroup_at_the_top(two: Path) -> None:
    found = _controller(two, "cgroup2")
    assert found.why_not() == ""
    found.ensure("7:3", LIMITS)
    for name in ("system.slice", "user.slice"):
        assert (two / name / "io.max").read_text() == "7:3 riops=100 wiops=max rbps=max wbps=1048576"
    assert (two / "system.slice/ray.service/io.max").read_text().startswith("8:0"), "what is above limits it"

    shown = "7:3 rbps=max wbps=1048576 riops=100 wiops=max\n"
    (two / "user.slice/io.max").write_text(shown)
    found.ensure("7:3", LIMITS)
    assert (two / "user.slice/io.max").read_text() == shown, "what is there is not written again"
    found.ensure("7:3", UNLIMITED)
    assert (two / "user.slice/io.max").read_text() == "7:3 riops=max wiops=max rbps=max wbps=max"


def test_version_one_limits_every_cgroup(one: Path) -> None:
    found = _controller(one, "cgroup")
    assert found.why_not() == ""
    found.ensure("7:3", LIMITS)
    for directory in (one, one / "docker", one / "docker" / "abc"):
        assert [(directory / f"blkio.throttle.{name}_device").read_text() for name in _V1] == [
            *("7:3 100", "8:0 7\n", "8:0 7\n", "7:3 1048576")
        ]
    found.ensure("7:3", UNLIMITED)
    assert (one / "docker/blkio.throttle.read_iops_device").read_text() == "7:3 0"


def test_only_the_cgroups_that_were_chosen(two: Path) -> None:
    found = _controller(two, "cgroup2", chosen=("system.slice/ray.service",))
    assert found.why_not() == ""
    found.ensure("7:3", LIMITS)
    assert (two / "system.slice/ray.service/io.max").read_text().startswith("7:3")
    assert (two / "system.slice/io.max").read_text().startswith("8:0")


def test_a_container_s_own_root_is_limited(two: Path) -> None:
    (two / "io.max").write_text("")
    found = _controller(two, "cgroup2", own="0::/")
    assert found.why_not() == ""
    found.ensure("7:3", LIMITS)
    assert (two / "io.max").read_text().startswith("7:3")


def test_where_limits_cannot_be_kept(two: Path, tmp_path: Path) -> None:
    assert "root cgroup" in _controller(two, "cgroup2", own="1:name=x:/a\n0::/\n").why_not()
    missing = _controller(two, "cgroup2", chosen=("system.slice", "missing.slice"))
    assert "missing.slice" in missing.why_not()
    for name in ("system.slice", "user.slice"):
        (two / name / "io.max").rename(two / name / "io.stat")
    assert "subtree_control" in _controller(two, "cgroup2").why_not()

    nothing = _controller(tmp_path / "nothing", "cgroup2")
    assert "no cgroup io controller" in nothing.why_not()
    nothing.ensure("7:3", UNLIMITED)
    with pytest.raises(BackendUnavailableError, match="7:3"):
        nothing.ensure("7:3", LIMITS)


def test_what_the_kernel_cannot_say() -> None:
    wide = Limits(total_iops=5, read_iops=1 << 40, write_iops=9, read_bytes=1 << 40)
    assert cgroup_io.without_totals(wide) == Limits(write_iops=9, read_bytes=1 << 40)
