"""One cluster for all tests of this directory: a head and three storage nodes on a bridge."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.cluster import machines, network
from tests.cluster.machines import Head, Node
from tests.integration.clients import Cloud, administrator, eventually
from tests.integration.conftest import free_port

ZONE = "nova"
# `slow` copies, so that a snapshot of much data is under way for a while.
BACKENDS = {
    "fast": {"label_selector": {"disk": "nvme"}},
    "slow": {
        "label_selector": {"disk": "hdd"},
        "options": {"own_file_system": "never"},
        "exports": ["local", "nbd"],
    },
}
# A request that names no zone is for that of the head, which is also that of nodes that name none.
NODES = {
    "h1": ("fast", "az1", {"disk": "nvme", "rack": "r1"}),
    "h2": ("fast", None, {"disk": "nvme", "rack": "r2"}),
    "h3": ("slow", None, {"disk": "hdd", "rack": "r3"}),
}


@dataclass(frozen=True)
class Cluster:
    """The head and the nodes by name."""

    head: Head
    nodes: dict[str, Node]

    def __getitem__(self, name: str) -> Node:
        return self.nodes[name]


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """The running cluster, with a volume service up on every node."""
    assert os.geteuid() == 0, "these tests make network namespaces: run them as root"
    assert shutil.which("ip"), "these tests need iproute2: apt-get install iproute2"
    directory = Path(tempfile.mkdtemp(prefix="pumice-cluster-"))
    with ExitStack() as stack:
        stack.enter_context(network.bridge())
        namespaces = {
            name: stack.enter_context(network.namespace(10 + place)) for place, name in enumerate(NODES, start=1)
        }
        head = stack.enter_context(machines.head(directory, free_port(), BACKENDS))
        nodes = {
            name: stack.enter_context(machines.node(directory, head, namespaces[name], name, backend, zone, labels))
            for name, (backend, zone, labels) in NODES.items()
        }
        one = Cluster(head, nodes)
        cloud = administrator(head)
        eventually(lambda: states(cloud) == {node.service: "up" for node in nodes.values()}, "all services are up", 150)
        yield one
    shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture
def cloud(cluster: Cluster) -> Iterator[Cloud]:
    """The administrator, without limits; the project is empty at the end, and so are the pools."""
    one = administrator(cluster.head)
    unlimited = {"quota_set": {"volumes": -1, "gigabytes": -1, "snapshots": -1}}
    assert one.call("PUT", f"/os-quota-sets/{one.project_id}", unlimited).status_code == 200
    yield one
    one.purge()
    assert {name: node.files() for name, node in cluster.nodes.items()} == {name: set() for name in cluster.nodes}


def states(cloud: Cloud) -> dict[str, str]:
    """Volume service → up or down, as `os-services` says."""
    listed = cloud.call("GET", "/os-services?binary=cinder-volume").json()["services"]
    return {row["host"]: row["state"] for row in listed}
