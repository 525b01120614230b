"""A node dies, is cut off, comes back; the GCS and the whole head die and come back.

The cut of two minutes begins with the first test that needs it; the tests in between go on meanwhile on other nodes, as
clients do. What a test asserts of time is what docs/reliability.md promises.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest

from tests.cluster.conftest import Cluster, states
from tests.cluster.machines import Head, Node
from tests.cluster.measuring import Poller, note
from tests.cluster.test_placement import create, lands, new_type
from tests.integration import disk
from tests.integration.clients import NEWEST, Cloud, administrator, eventually

pytestmark = pytest.mark.timeout(900)

DOWN_SECONDS = 15.0
CUT_SECONDS = 120.0
_MIB = 1 << 20


@dataclass
class Work:
    """What is under way on a node: a create, a delete and a snapshot, all of which wait for it."""

    node: Node
    kind: str
    created: str = ""
    deleted: str = ""
    source: str = ""
    snapshot: str = ""
    content: dict[int, str] = field(default_factory=dict)

    @classmethod
    def prepare(cls, cluster: Cluster, cloud: Cloud, node: Node, mib: int = 1) -> Work:
        """Volumes there to work on; the source of the snapshot has `mib` MiB of data."""
        one = cls(node, new_type(cloud, **{"label:rack": node.labels["rack"]}))
        one.deleted, one.source = one.create(cloud), one.create(cloud)
        for item in (one.deleted, one.source):
            assert lands(cluster, cloud, item) is node
        data = os.urandom(_MIB)
        with node.volume_file(one.source).open("r+b") as file:
            for offset in range(0, mib * _MIB, _MIB):
                file.seek(offset)
                file.write(offset.to_bytes(8, "big") + data[8:])
            os.fsync(file.fileno())
        one.content = disk.blocks(node.volume_file(one.source))
        return one

    def create(self, cloud: Cloud) -> str:
        return create(cloud, volume_type=self.kind, availability_zone=self.node.zone)

    def begin_snapshot(self, cloud: Cloud) -> None:
        answer = cloud.call("POST", "/snapshots", {"snapshot": {"volume_id": self.source}}, minor=NEWEST)
        assert answer.status_code == 202, answer.text
        self.snapshot = answer.json()["snapshot"]["id"]

    def begin(self, cloud: Cloud) -> None:
        """All of it that is not begun yet."""
        self.created = self.create(cloud)
        assert cloud.call("DELETE", f"/volumes/{self.deleted}", minor=NEWEST).status_code == 202
        if not self.snapshot:
            self.begin_snapshot(cloud)

    def statuses(self, cloud: Cloud) -> dict[str, str]:
        return {
            "created": cloud.show("volumes", self.created)["status"],
            "deleted": cloud.show("volumes", self.deleted)["status"],
            "snapshot": cloud.show("snapshots", self.snapshot)["status"],
        }

    def waits(self, cloud: Cloud) -> None:
        """It is as uncertain as it should be, and nobody has moved it elsewhere."""
        assert self.statuses(cloud) == {"created": "creating", "deleted": "deleting", "snapshot": "creating"}
        host = cloud.show("volumes", self.created)["os-vol-host-attr:host"]
        assert host in (None, f"{self.node.service}#{self.node.backend}")

    def finishes(self, cluster: Cluster, cloud: Cloud) -> float:
        """Until all is done, on that node and no other, once each, with the right content; seconds that it took."""
        began = time.monotonic()
        cloud.settled("snapshots", self.snapshot)
        cloud.gone("volumes", self.deleted)
        assert lands(cluster, cloud, self.created) is self.node
        took = time.monotonic() - began
        assert self.node.files() == {
            *(f"volume-{item}" for item in (self.created, self.source)),
            f"snapshot-{self.snapshot}",
        }
        assert disk.blocks(self.node.snapshot_file(self.snapshot)) == self.content
        assert disk.blocks(self.node.volume_file(self.source)) == self.content
        return took

    def remove(self, cloud: Cloud) -> None:
        cloud.delete("snapshots", self.snapshot)
        for item in (self.created, self.source):
            cloud.delete("volumes", item)


def serves(cluster: Cluster, cloud: Cloud, *nodes: Node) -> None:
    """Volumes can be made and deleted on the nodes."""
    for node in nodes:
        kind = new_type(cloud, **{"label:rack": node.labels["rack"]})
        volume = create(cloud, volume_type=kind, availability_zone=node.zone)
        assert lands(cluster, cloud, volume) is node
        cloud.delete("volumes", volume)


def goes_down(cloud: Cloud, node: Node, since: float) -> float:
    """Seconds from `since` until os-services says that it is down."""
    left = since + DOWN_SECONDS - time.monotonic()
    eventually(lambda: states(cloud)[node.service] == "down", f"{node.service} is down", left)
    return time.monotonic() - since


def comes_up(cloud: Cloud, node: Node, seconds: float = 120) -> float:
    """Seconds until it says that it is up."""
    began = time.monotonic()
    eventually(lambda: states(cloud)[node.service] == "up", f"{node.service} is up", seconds)
    return time.monotonic() - began


def ray_ids(head: Head) -> dict[str, str]:
    """Host → id of the living Ray node of that name."""
    script = (
        "import sys; from actors import ray_port; from actors.names import HOST_LABEL as H\n"
        "for n in ray_port.nodes_at(sys.argv[1], 10):\n    if n.alive: print(n.labels[H], n.id)"
    )
    token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(head.state_dir / "secrets" / "ray.token")}
    done = subprocess.run(
        [sys.executable, "-c", script, head.report()["ray_address"]],
        env={**head.environment(), **token},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return dict(line.split() for line in done.stdout.splitlines())


@dataclass
class Cut:
    """A node without a link, since `began`, with a snapshot under way."""

    node: Node
    work: Work
    began: float
    epoch: int
    ray_id: str


def epoch(head: Head) -> int:
    """The conductor's, by its log."""
    lines = head.run("logs", "--json", timeout=60).stdout.splitlines()
    found = [event for event in map(json.loads, lines) if event["event"] == "conductor.lease"]
    return int(found[-1]["epoch"])


@pytest.fixture(scope="module")
def admin(cluster: Cluster) -> Iterator[Cloud]:
    """The administrator, without limits; at the end nothing is left in records or pools."""
    one = administrator(cluster.head)
    unlimited = {"quota_set": {"volumes": -1, "gigabytes": -1, "snapshots": -1}}
    assert one.call("PUT", f"/os-quota-sets/{one.project_id}", unlimited).status_code == 200
    yield one
    one.purge()
    assert {name: node.files() for name, node in cluster.nodes.items()} == {name: set() for name in cluster.nodes}


@pytest.fixture(scope="module")
def cut(cluster: Cluster, admin: Cloud) -> Iterator[Cut]:
    """h3 is cut off while it makes a snapshot that takes it some seconds."""
    node = cluster["h3"]
    work = Work.prepare(cluster, admin, node, mib=512)
    ray_id = ray_ids(cluster.head)[node.name]
    work.begin_snapshot(admin)
    eventually(lambda: any("snapshot" in name for name in node.files()), "the snapshot is begun", 20)
    node.namespace.cut()
    one = Cut(node, work, time.monotonic(), epoch(cluster.head), ray_id)
    yield one
    node.namespace.mend()


def test_a_node_that_is_cut_off_is_down_and_its_work_waits(cluster: Cluster, admin: Cloud, cut: Cut) -> None:
    cut.work.begin(admin)
    note("cut off → service down", goes_down(admin, cut.node, cut.began))
    cut.work.waits(admin)
    assert cut.node.actor(), "it goes on where nobody hears it"
    serves(cluster, admin, cluster["h1"], cluster["h2"])


def test_meanwhile_another_conductor_takes_over(cluster: Cluster, admin: Cloud, cut: Cut) -> None:
    os.kill(cluster.head.pid("ray::ConductorActor"), signal.SIGKILL)
    eventually(lambda: epoch(cluster.head) > cut.epoch, "the epoch has moved on", 60)
    serves(cluster, admin, cluster["h1"])
    cut.work.waits(admin)


def test_a_node_dies_and_returns(cluster: Cluster, admin: Cloud, cut: Cut) -> None:
    node = cluster["h1"]
    work = Work.prepare(cluster, admin, node)
    before = ray_ids(cluster.head)[node.name]
    killed = time.monotonic()
    node.kill()
    work.begin(admin)
    note("killed → service down", goes_down(admin, node, killed))
    work.waits(admin)
    serves(cluster, admin, cluster["h2"])
    work.waits(admin)

    began = time.monotonic()
    node.join()
    comes_up(admin, node)
    note("node started again → service up", time.monotonic() - began)
    work.finishes(cluster, admin)
    note("node started again → its work done", time.monotonic() - began)
    assert ray_ids(cluster.head)[node.name] != before
    serves(cluster, admin, node)
    work.remove(admin)


def test_the_node_that_was_cut_off_returns(cluster: Cluster, admin: Cloud, cut: Cut) -> None:
    time.sleep(max(0.0, CUT_SECONDS - (time.monotonic() - cut.began)))
    cut.work.waits(admin)
    # Somebody there has finished what he had begun, and may not tell. The records know nothing of it.
    alone = cut.node.actor()
    cut.node.namespace.mend()
    began = time.monotonic()
    comes_up(admin, cut.node)
    note("link mended → service up", time.monotonic() - began)
    cut.work.finishes(cluster, admin)
    note("link mended → its work done", time.monotonic() - began)
    assert ray_ids(cluster.head)[cut.node.name] != cut.ray_id
    assert cut.node.actor() not in (0, alone)
    serves(cluster, admin, *cluster.nodes.values())
    cut.work.remove(admin)


def test_the_gcs_dies(cluster: Cluster, admin: Cloud) -> None:
    before = {name: node.actor() for name, node in cluster.nodes.items()}
    works = [Work.prepare(cluster, admin, node) for node in cluster.nodes.values()]
    with Poller(admin) as poller:
        for work in works[:1]:
            work.begin(admin)
        os.kill(cluster.head.pid("/gcs_server"), signal.SIGKILL)
        for work in works[1:]:
            work.begin(admin)
        for work in works:
            work.finishes(cluster, admin)
        serves(cluster, admin, *cluster.nodes.values())
    note("GCS killed → longest pause of a client", poller.pause)
    assert (poller.wrong, poller.failed) == (set(), 0)
    assert {name: node.actor() for name, node in cluster.nodes.items()} == before
    assert set(states(admin).values()) == {"up"}
    for work in works:
        work.remove(admin)


def test_the_head_dies_and_returns(cluster: Cluster, admin: Cloud) -> None:
    before = {name: node.actor() for name, node in cluster.nodes.items()}
    works = [Work.prepare(cluster, admin, node) for node in cluster.nodes.values()]
    with Poller(admin) as poller:
        for work in works:
            work.begin(admin)
        cluster.head.kill()
        began = time.monotonic()
        assert {name: node.actor() for name, node in cluster.nodes.items()} == before
        cluster.head.up()
        note("head started again → ready", time.monotonic() - began)
        for work in works:
            work.finishes(cluster, admin)
        note("head started again → all work done", time.monotonic() - began)
        serves(cluster, admin, *cluster.nodes.values())
    note("head killed → longest pause of a client", poller.pause)
    assert poller.wrong == set()
    assert {name: node.actor() for name, node in cluster.nodes.items()} == before
    assert ray_ids(cluster.head).keys() == {"head", *cluster.nodes}
    for work in works:
        work.remove(admin)


def test_a_node_whose_raylet_dies_is_back_by_itself(cluster: Cluster, admin: Cloud) -> None:
    node = cluster["h2"]
    old = ray_ids(cluster.head)[node.name]
    raylet = next(pid for pid, line in node.place.processes().items() if "/raylet/raylet" in line)
    os.kill(raylet, signal.SIGKILL)
    began = time.monotonic()
    eventually(lambda: ray_ids(cluster.head).get(node.name, old) != old, "the node is back", 120)
    comes_up(admin, node)
    serves(cluster, admin, node)
    note("raylet killed → a volume made there", time.monotonic() - began)
