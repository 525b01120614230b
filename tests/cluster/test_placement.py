"""Volumes land where labels, availability zones, extra specs and hints say: in the records, and on disk."""

from __future__ import annotations

import subprocess
import uuid
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.conftest import NODES, ZONE, Cluster, states
from tests.cluster.machines import Node
from tests.integration.clients import NEWEST, Cloud, eventually
from tests.integration.conftest import PUMICE, Service

pytestmark = pytest.mark.timeout(600)


def new_type(cloud: Cloud, **specs: str) -> str:
    """A volume type with these extra specs; its name."""
    name = f"type-{uuid.uuid4().hex[:8]}"
    answer = cloud.call("POST", "/types", {"volume_type": {"name": name, "extra_specs": specs}})
    assert answer.status_code == 200, answer.text
    return name


def create(cloud: Cloud, hints: dict[str, Any] | None = None, **values: Any) -> str:
    """Ask for a volume of 1 GiB; its id."""
    body: dict[str, Any] = {"volume": {"size": 1, **values}}
    if hints is not None:
        body["OS-SCH-HNT:scheduler_hints"] = hints
    answer = cloud.call("POST", "/volumes", body, minor=NEWEST)
    assert answer.status_code == 202, answer.text
    return str(answer.json()["volume"]["id"])


def lands(cluster: Cluster, cloud: Cloud, volume_id: str) -> Node:
    """The node where the volume is when it is available: by its host, and by its file, which no other node has."""
    volume = cloud.settled("volumes", volume_id)
    holders = [node for node in cluster.nodes.values() if f"volume-{volume_id}" in node.files()]
    assert [f"{node.service}#{node.backend}" for node in holders] == [volume["os-vol-host-attr:host"]]
    assert volume["availability_zone"] == (holders[0].zone or ZONE)
    return holders[0]


def refused(cloud: Cloud, volume_id: str) -> None:
    """No node may hold it, and its user is told so."""
    cloud.settled("volumes", volume_id, "error")
    messages = cloud.call("GET", f"/messages?resource_uuid={volume_id}", minor=NEWEST).json()["messages"]
    assert [item["event_id"] for item in messages] == ["VOLUME_VOLUME_001_003"], messages


def test_the_operator_sees_nodes_services_and_zones(cluster: Cluster, cloud: Cloud) -> None:
    found = {row["host"]: row for row in cluster.head.report()["nodes"]}
    assert {name: (row["zone"], row["labels"], row["state"]) for name, row in found.items()} == {
        name: (zone or ZONE, labels, "up") for name, (_, zone, labels) in NODES.items()
    }
    assert states(cloud) == {f"{name}@{backend}": "up" for name, (backend, _, _) in NODES.items()}
    zones = cloud.call("GET", "/os-availability-zone").json()["availabilityZoneInfo"]
    assert {zone["zoneName"]: zone["zoneState"]["available"] for zone in zones} == {"az1": True, ZONE: True}
    assert cluster.head.run("status", timeout=60).returncode == 0
    on_node = cluster["h1"].place.run("status", timeout=60)
    assert (on_node.returncode, on_node.stdout.splitlines()[0]) == (0, "ready"), on_node.stdout + on_node.stderr


@pytest.mark.parametrize(
    ("specs", "zone", "expected"),
    [
        ({"volume_backend_name": "fast", "label:rack": "r2"}, None, {"h2"}),
        ({"volume_backend_name": "slow"}, None, {"h3"}),
        ({"label:disk": "nvme"}, None, {"h2"}),
        ({"label:rack": "!r2"}, None, {"h3"}),
        ({"label:rack": "in(r1,r9)"}, "az1", {"h1"}),
        ({"label:rack": "!in(r1,r2)"}, None, {"h3"}),
        ({"label:disk": "nvme", "RESKEY:availability_zones": "az1"}, None, {"h1"}),
        ({"label:disk": "nvme", "RESKEY:availability_zones": "az1,nova"}, None, {"h1", "h2"}),
        ({"label:rack": "r9"}, None, set()),
        ({"label:rack": "r1"}, None, set()),
        ({"volume_backend_name": "fast", "label:disk": "hdd"}, None, set()),
    ],
)
def test_extra_specs(
    cluster: Cluster, cloud: Cloud, specs: dict[str, str], zone: str | None, expected: set[str]
) -> None:
    kind = new_type(cloud, **specs)
    ids = [create(cloud, volume_type=kind, availability_zone=zone) for _ in range(3)]
    if expected:
        assert {lands(cluster, cloud, item).name for item in ids} == expected
    else:
        for item in ids:
            refused(cloud, item)


def test_availability_zones(cluster: Cluster, cloud: Cloud) -> None:
    assert lands(cluster, cloud, create(cloud, availability_zone="az1")).name == "h1"
    for zone in ({}, {"availability_zone": ZONE}):
        assert lands(cluster, cloud, create(cloud, **zone)).name in ("h2", "h3")
    answer = cloud.call("POST", "/volumes", {"volume": {"size": 1, "availability_zone": "az9"}}, minor=NEWEST)
    assert answer.status_code == 400, answer.text


def test_hints(cluster: Cluster, cloud: Cloud) -> None:
    first = create(cloud, availability_zone="az1")
    assert lands(cluster, cloud, first).name == "h1"
    for _ in range(2):
        assert lands(cluster, cloud, create(cloud, {"same_host": first}, availability_zone="az1")).name == "h1"
    second = create(cloud, {"different_host": [first], "label:disk": "nvme"})
    assert lands(cluster, cloud, second).name == "h2"
    assert lands(cluster, cloud, create(cloud, {"different_host": [first, second]})).name == "h3"
    assert lands(cluster, cloud, create(cloud, {"query": '["=", "$host", "h2@fast#fast"]'})).name == "h2"
    assert lands(cluster, cloud, create(cloud, {"label:rack": "in(r3)"})).name == "h3"
    refused(cloud, create(cloud, {"same_host": first, "different_host": [first]}, availability_zone="az1"))


def test_copies_stay_with_their_source(cluster: Cluster, cloud: Cloud) -> None:
    source = create(cloud, volume_type=new_type(cloud, volume_backend_name="slow"))
    assert lands(cluster, cloud, source).name == "h3"
    snapshot = cloud.snapshot(source)
    assert cluster["h3"].snapshot_file(snapshot["id"]).is_file()
    assert lands(cluster, cloud, create(cloud, snapshot_id=snapshot["id"])).name == "h3"
    assert lands(cluster, cloud, create(cloud, source_volid=source)).name == "h3"


@pytest.mark.parametrize(
    ("name", "token", "said"),
    [
        ("h9", "0" * 64, "does not take this token"),
        ("h1", None, "'h1' is in the cluster already"),
    ],
)
def test_who_may_not_join_is_told_so_and_leaves_nothing(
    cluster: Cluster, tmp_path: Path, name: str, token: str | None, said: str
) -> None:
    secret = tmp_path / "token"
    secret.write_text(token or (cluster.head.state_dir / "secrets" / "ray.token").read_text())
    secret.chmod(0o600)
    stranger = Service(tmp_path / "node", 0)
    command = [PUMICE, "join", "--head", cluster.head.report()["ray_address"], "--host-name", name]
    command += ["--token-file", str(secret), "--state-dir", str(stranger.state_dir)]
    within = cluster["h2"].namespace.within(*command)
    done = subprocess.run(within, env=stranger.environment(), capture_output=True, text=True, timeout=120)
    assert done.returncode == 1, done.stdout + done.stderr
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert stranger.leftovers() == []


def test_a_label_counts_from_the_next_join_on(cluster: Cluster, cloud: Cloud) -> None:
    node = cluster["h2"]
    kind = new_type(cloud, **{"label:tier": "gold"})
    refused(cloud, create(cloud, volume_type=kind))
    assert node.leave() == 0
    assert node.place.processes() == {}
    node.labels["tier"] = "gold"
    node.join()
    listed = lambda: {row["host"]: row["labels"] for row in cluster.head.report()["nodes"]}  # noqa: E731
    eventually(lambda: listed()["h2"].get("tier") == "gold", "the head knows the new label", 90)
    assert lands(cluster, cloud, create(cloud, volume_type=kind)).name == "h2"
