"""What needs a kernel that has iSCSI, network block devices and the io controller of cgroup v2, in a guest (see
guest.py)."""

from __future__ import annotations

import sys

import pytest

from tests.kernel import guest

pytestmark = pytest.mark.timeout(400)


@pytest.mark.parametrize(
    "tests",
    [
        "tests/kernel/iscsi_in_guest.py",
        "tests/kernel/nbd_in_guest.py",
    ],
)
def test_in_a_guest(tests: str) -> None:
    command = f"cd {guest.CHECKOUT} && {sys.executable} -m pytest -q -s -p no:cacheprovider --durations=10 {tests}"
    ended = guest.run(command, timeout_seconds=300)
    print(ended.said)
    assert ended.status == 0, ended.said


def test_limits_of_local_devices_by_cgroup_version_two() -> None:
    """Cgroups as systemd arranges them: the io controller, and what runs in a cgroup at the top."""
    cgroups = "/sys/fs/cgroup"
    tests = "tests/conformance/test_export_limits.py -k 'hold or go_with or cgroups'"
    steps = [
        f"mount -t cgroup2 none {cgroups}",
        f"echo +io > {cgroups}/cgroup.subtree_control",
        f"mkdir {cgroups}/system.slice {cgroups}/user.slice",
        f"echo $$ > {cgroups}/system.slice/cgroup.procs",
        f"cd {guest.CHECKOUT}",
        f"{sys.executable} -m pytest -q -p no:cacheprovider {tests}",
    ]
    ended = guest.run(" && ".join(steps), timeout_seconds=300)
    assert ended.status == 0, ended.said
    assert "6 passed" in ended.said
