"""Tasks on one node mount volumes whose bytes are on another: what they wrote is there, and nothing is left behind.

Both nodes are network namespaces of this machine, so their loop devices and mounts are told apart by their directories.
"""

from __future__ import annotations

import hashlib
import json
import statistics
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from drivers.exports import loop_device
from tests.cluster.conftest import Cluster
from tests.cluster.machines import Node
from tests.cluster.measuring import note
from tests.cluster.test_placement import create, lands, new_type
from tests.integration.clients import NEWEST, Cloud, administrator

pytestmark = pytest.mark.timeout(600)
_DRIVER = Path(__file__).with_name("mounts_driver.py")
_BLOCK = 4096
_AT_ONCE = 4
_RELEASE_SECONDS = 30.0


@dataclass
class Run:
    """What tasks of `consumer` saw of the volumes, the first of which was written and held, on `holder`."""

    consumer: Node
    holder: Node
    volumes: list[str]
    cloud: Cloud
    seen: dict[str, Any]


def consumer_traces(node: Node) -> list[str]:
    """What a node has because its tasks mount: mounts, devices, claims, processes."""
    own = node.place.state_dir / "node"
    mounts = [line for line in Path("/proc/self/mountinfo").read_text().splitlines() if str(own) in line]
    loops = [f"{one.path} {one.backing}" for one in loop_device.bound() if one.backing.startswith(str(own))]
    running = [line for line in node.place.processes().values() if "nbdfuse" in line or str(own) in line]
    return [*mounts, *loops, *running, *(str(path) for path in own.glob("*/*"))]


def holder_traces(node: Node) -> list[str]:
    """What a node has because its volumes are attached: devices, exports, gateways."""
    own = node.place.state_dir / "exports" / node.backend
    scopes = str(node.pool)
    loops = [f"{one.path} {one.backing}" for one in loop_device.bound() if one.backing.startswith(scopes)]
    loops = [line for line in loops if not line.endswith(".img")]
    gateways = [str(path) for path in (own / "nbd" / "tcp").glob("*")]
    running = [
        line for line in node.place.processes().values() if "qemu-storage-daemon" in line and "tls-creds" in line
    ]
    socket = own / "nbd" / "nbd.sock"
    exports = []
    if socket.exists():
        asked = ["nbdinfo", "--list", "--json", f"nbd+unix://?socket={socket}"]
        listed = subprocess.run(asked, capture_output=True, text=True, timeout=30, check=True)
        exports = [one["export-name"] for one in json.loads(listed.stdout)["exports"]]
    return [*loops, *gateways, *running, *exports]


@pytest.fixture(scope="module")
def run(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    """The driver's run, from one node to volumes of another."""
    cloud = administrator(cluster.head)
    unlimited = {"quota_set": {"volumes": -1, "gigabytes": -1, "snapshots": -1}}
    assert cloud.call("PUT", f"/os-quota-sets/{cloud.project_id}", unlimited).status_code == 200
    consumer, holder = cluster["h2"], cluster["h3"]
    kind = new_type(cloud, **{"label:rack": holder.labels["rack"]})
    volumes = [create(cloud, volume_type=kind) for _ in range(1 + _AT_ONCE)]
    assert {lands(cluster, cloud, one).name for one in volumes} == {holder.name}
    directory = tmp_path_factory.mktemp("driver")
    environment = {**cluster.head.environment(), "PUMICE_STATE_DIR": str(cluster.head.state_dir)}
    command = [sys.executable, str(_DRIVER), str(directory), consumer.name, volumes[0], "ext4", *volumes[1:]]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=500, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    print(done.stderr[-2000:])
    yield Run(consumer, holder, volumes, cloud, json.loads((directory / "seen.json").read_text()))
    cloud.purge()


def test_what_a_task_wrote_is_in_the_volume_of_the_other_node_block_by_block(run: Run) -> None:
    blocks = {int(place): digest for place, digest in run.seen["blocks"].items()}
    assert len(blocks) == 4096
    with run.holder.volume_file(run.volumes[0]).open("rb") as stream:
        for place, digest in blocks.items():
            stream.seek(place)
            assert hashlib.sha256(stream.read(_BLOCK)).hexdigest() == digest, f"block at {place}"


def test_the_volume_of_a_killed_task_is_available_within_thirty_seconds(run: Run) -> None:
    killed = run.seen["killed"]
    assert (killed["held"], killed["text"]) == ("in-use", "synced")
    note("task with a remote volume killed → the volume is available", killed["seconds"])
    assert killed["seconds"] < _RELEASE_SECONDS


def test_a_hundred_rounds_leave_nothing_on_either_node(run: Run) -> None:
    mounts, unmounts = run.seen["mounts"], run.seen["unmounts"]
    assert len(mounts) + _AT_ONCE == 100
    assert run.seen["texts"] == [True] * _AT_ONCE
    note(f"mount of a remote volume, p50 of {len(run.seen['alone'])}, alone", statistics.median(run.seen["alone"]))
    note(f"mount of a remote volume, p50 of {len(mounts)}, four at once", statistics.median(mounts))
    note("its unmount, p50", statistics.median(unmounts))
    assert consumer_traces(run.consumer) == []
    assert holder_traces(run.holder) == []
    assert run.cloud.call("GET", "/attachments?all_tenants=1", minor=NEWEST).json()["attachments"] == []
    assert {run.cloud.show("volumes", one)["status"] for one in run.volumes} == {"available"}
