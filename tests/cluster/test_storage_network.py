"""The network by which consumers come: who reaches an export's port on real machines, where it is, and what nodes tell.

The volumes are on h3. h1 has them attached, h2 is a stranger; both are on the same bridge.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from tests.cluster.conftest import Cluster, states
from tests.cluster.machines import Node
from tests.cluster.network import ip
from tests.cluster.test_placement import create, lands, new_type
from tests.integration.clients import NEWEST, Cloud, administrator, eventually

pytestmark = pytest.mark.timeout(400)

STORAGE, CONSUMER = "10.76.0.13", "10.76.0.11"
_CONNECT = "import socket, sys; socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=10)"


@dataclass
class Attached:
    """A volume of h3 that h1 has attached."""

    volume: str
    attachment: str
    cloud: Cloud

    @property
    def portal(self) -> tuple[str, int]:
        """Where the records say that the consumer is to come."""
        info = self.cloud.call("GET", f"/attachments/{self.attachment}", minor=NEWEST).json()["attachment"]
        return info["connection_info"]["host"], info["connection_info"]["port"]


@pytest.fixture(scope="module")
def cloud(cluster: Cluster) -> Iterator[Cloud]:
    one = administrator(cluster.head)
    yield one
    one.purge()
    assert cluster["h3"].files() == set()


@pytest.fixture(scope="module")
def volume(cluster: Cluster, cloud: Cloud) -> str:
    kind = new_type(cloud, **{"label:rack": "r3"})
    one = create(cloud, volume_type=kind)
    assert lands(cluster, cloud, one) is cluster["h3"]
    return one


def attach(cloud: Cloud, volume: str, ip: str) -> Attached:
    connector = {"host": "h1", "ip": ip, "platform": "x86_64", "os_type": "linux", "multipath": False}
    body = {"attachment": {"volume_uuid": volume, "connector": connector}}
    answer = cloud.call("POST", "/attachments", body, minor=NEWEST)
    assert answer.status_code == 200, answer.text
    assert answer.json()["attachment"]["connection_info"]["transport"] == "tcp"
    return Attached(volume, answer.json()["attachment"]["id"], cloud)


def detach(one: Attached) -> None:
    answer = one.cloud.call("DELETE", f"/attachments/{one.attachment}", minor=NEWEST)
    assert answer.status_code == 200, answer.text


@pytest.fixture(scope="module")
def attached(cluster: Cluster, cloud: Cloud, volume: str) -> Iterator[Attached]:
    one = attach(cloud, volume, cluster["h1"].namespace.address)
    yield one
    detach(one)


def reaches(node: Node, portal: tuple[str, int]) -> bool:
    """Whether a process of that machine gets a connection; anything but a plain refusal is neither."""
    command = node.namespace.within(sys.executable, "-c", _CONNECT, portal[0], str(portal[1]))
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0 or "ConnectionRefusedError" in done.stderr, done.stderr
    return done.returncode == 0


def nft(node: Node, *arguments: str) -> str:
    command = node.namespace.within("nft", *arguments)
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def labels(cluster: Cluster) -> dict[str, dict[str, str]]:
    """Host → those labels of the living Ray node that tell of storage."""
    script = (
        "import json, sys; from actors import ray_port; from actors.names import HOST_LABEL as H\n"
        "found = {n.labels[H]: dict(n.labels) for n in ray_port.nodes_at(sys.argv[1], 10) if n.alive}\n"
        "print(json.dumps(found))"
    )
    token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(cluster.head.state_dir / "secrets" / "ray.token")}
    done = subprocess.run(
        [sys.executable, "-c", script, cluster.head.report()["ray_address"]],
        env={**cluster.head.environment(), **token},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    begin = "pumice.io/storage-"
    found: dict[str, dict[str, str]] = json.loads(done.stdout)
    return {
        host: {key.removeprefix(begin): value for key, value in all_of_it.items() if key.startswith(begin)}
        for host, all_of_it in found.items()
    }


def pool_of(cloud: Cloud, node: Node) -> dict[str, Any]:
    """What the pool of the node tells the scheduler."""
    pools = cloud.call("GET", "/scheduler-stats/get_pools?detail=true").json()["pools"]
    return next(dict(pool["capabilities"]) for pool in pools if pool["name"].startswith(f"{node.service}#"))


def test_nodes_tell_of_the_network_that_they_have_in_the_cluster(cluster: Cluster, cloud: Cloud) -> None:
    found = labels(cluster)
    for node in cluster.nodes.values():
        assert found[node.name] == {"interface": "eth0", "address": node.namespace.address, "mtu": "1500"}
        can = pool_of(cloud, node)
        assert (can["storage_interface"], can["storage_mtu"]) == ("eth0", 1500)
        assert "storage_speed_mbps" not in can, "the kernel makes up the speed of these interfaces"
    shown = {row["host"]: row["storage"] for row in cluster.head.report()["nodes"]}
    assert shown["h3"] == f"eth0 {cluster['h3'].namespace.address}, 1500 bytes"


def test_only_the_attached_node_reaches_the_port(cluster: Cluster, cloud: Cloud, attached: Attached) -> None:
    h1, h2, h3 = (cluster[name] for name in ("h1", "h2", "h3"))
    assert attached.portal[0] == h3.namespace.address, "the export is where the node is, without being told"
    assert reaches(h1, attached.portal)
    assert not reaches(h2, attached.portal)
    assert pool_of(cloud, h3)["storage_allow_list"] == "kept"
    assert next(row["ports"] for row in cluster.head.report()["pools"] if row["name"].startswith("h3@")) == "kept"
    remembered = json.loads((h3.place.state_dir / "run" / "network.json").read_text())
    assert remembered["allow_list"] == "required", "as the instance's settings on the head say"


def test_what_was_flushed_is_made_again_when_the_conductor_compares(cluster: Cluster, attached: Attached) -> None:
    h1, h2, h3 = (cluster[name] for name in ("h1", "h2", "h3"))
    before = h3.actor()
    nft(h3, "flush", "ruleset")
    assert reaches(h2, attached.portal), "nothing but the allow-list keeps it out"
    eventually(lambda: not reaches(h2, attached.portal), "the rules are there again", 90)
    assert reaches(h1, attached.portal)
    assert h3.actor() == before, "no new life has made them"


def test_the_next_life_of_a_volume_actor_makes_them_again(cluster: Cluster, attached: Attached) -> None:
    """What a kill -9 leaves is kept by the kernel all the while; what is lost meanwhile is made when it starts."""
    h1, h2, h3 = (cluster[name] for name in ("h1", "h2", "h3"))
    before = h3.actor()
    os.kill(before, signal.SIGKILL)
    assert reaches(h1, attached.portal)
    assert not reaches(h2, attached.portal)
    nft(h3, "flush", "ruleset")
    eventually(lambda: not reaches(h2, attached.portal), "the next volume actor has made the rules", 90)
    assert h3.actor() not in (0, before)
    assert reaches(h1, attached.portal)


def test_a_consumer_that_says_no_address_is_refused(cluster: Cluster, cloud: Cloud, attached: Attached) -> None:
    other = create(cloud, volume_type=cloud.show("volumes", attached.volume)["volume_type"])
    cloud.settled("volumes", other)
    body = {"attachment": {"volume_uuid": other, "connector": {"host": "h1"}}}
    answer = cloud.call("POST", "/attachments", body, minor=NEWEST)
    assert answer.status_code == 400, answer.text
    assert "its connector says no IP address" in answer.text
    left = cloud.call("GET", f"/attachments?volume_id={other}", minor=NEWEST).json()["attachments"]
    for one in left:
        assert cloud.call("DELETE", f"/attachments/{one['id']}", minor=NEWEST).status_code == 200
    cloud.delete("volumes", other)


def test_the_rules_go_with_the_attachment(cluster: Cluster, cloud: Cloud, volume: str, attached: Attached) -> None:
    h3 = cluster["h3"]
    before = nft(h3, "list", "ruleset")
    assert str(attached.portal[1]) in before
    detach(attached)
    assert nft(h3, "list", "ruleset") == ""
    again = attach(cloud, volume, cluster["h1"].namespace.address)
    assert not reaches(cluster["h2"], again.portal)
    attached.attachment = again.attachment


@pytest.fixture
def cable(cluster: Cluster) -> Iterator[None]:
    """A second network, of h3 and h1 alone: `st0` at each end, with an alternative name at h3's."""
    h1, h3 = cluster["h1"].namespace.name, cluster["h3"].namespace.name
    ip("-n", h3, "link", "add", "st0", "mtu", "9000", "type", "veth", "peer", "name", "st0", "netns", h1)
    ip("-n", h3, "link", "property", "add", "dev", "st0", "altname", "storage")
    for space, address in ((h3, STORAGE), (h1, CONSUMER)):
        ip("-n", space, "addr", "add", f"{address}/24", "dev", "st0")
        ip("-n", space, "link", "set", "st0", "up")
    yield
    ip("-n", h3, "link", "del", "st0")


def test_a_storage_network_of_ones_own(cluster: Cluster, cloud: Cloud, attached: Attached, cable: None) -> None:
    """The node leaves, nothing of the rules stays; it joins again with another network, and exports are there."""
    h1, h2, h3 = (cluster[name] for name in ("h1", "h2", "h3"))
    volume, old = attached.volume, attached.portal
    assert h3.leave() == 0, h3.output.read_text()
    assert nft(h3, "list", "ruleset") == ""
    h3.place.variables["PUMICE_STORAGE_NETWORK__SPEED_MBPS"] = "25000"
    h3.join("--storage-interface", "storage")
    eventually(h3.is_joined, "h3 has joined again", 150)
    eventually(lambda: states(cloud)[h3.service] == "up", "its service is up", 90)
    told = {"interface": "st0", "address": STORAGE, "mtu": "9000", "speed-mbps": "25000"}
    assert labels(cluster)["h3"] == told
    eventually(lambda: pool_of(cloud, h3).get("storage_speed_mbps") == 25000, "the scheduler knows", 60)
    fits, asks_more = (
        create(cloud, volume_type=new_type(cloud, **{"label:rack": "r3", "storage_speed_mbps": f">= {speed}"}))
        for speed in (10000, 40000)
    )
    assert lands(cluster, cloud, fits) is h3
    cloud.settled("volumes", asks_more, "error")
    eventually(lambda: attached.portal[0] == STORAGE, "what was attached is served at the new address", 90)
    assert not reaches(h2, old)
    assert not reaches(h1, attached.portal), "the consumer said that it comes from the other network"
    detach(attached)
    again = attach(cloud, volume, CONSUMER)
    attached.attachment = again.attachment
    assert again.portal[0] == STORAGE
    assert reaches(h1, again.portal)


@pytest.fixture
def as_before(cluster: Cluster, cloud: Cloud) -> Iterator[None]:
    """h3 comes back with the network that the other tests know, while this one does something else."""
    h3 = cluster["h3"]
    h3.place.variables.pop("PUMICE_STORAGE_NETWORK__SPEED_MBPS", None)
    assert h3.leave() == 0, h3.output.read_text()
    h3.join()
    yield
    eventually(h3.is_joined, "h3 has joined again", 150)
    eventually(lambda: states(cloud)[h3.service] == "up", "its service is up", 90)
    assert labels(cluster)["h3"]["interface"] == "eth0"


def test_a_node_that_has_no_such_network_says_what_there_is(cluster: Cluster, as_before: None) -> None:
    """Asked in the place of a node, under another name and with a directory of its own."""
    h3 = cluster["h3"]
    command = [*h3.command("--storage-subnet", "10.250.0.0/16", "--host-name", "h9")]
    place = command.index("--state-dir")
    command[place + 1] = str(h3.place.state_dir.parent / "h9")
    done = subprocess.run(command, env=h3.place.environment(), capture_output=True, text=True, timeout=200)
    assert done.returncode == 1
    assert "storage_network.subnet: no interface of this machine has an address in 10.250.0.0/16" in done.stderr
    assert f"eth0 {h3.namespace.address}" in done.stderr
    assert "h9" not in labels(cluster)
