"""QoS specs by the stock clients, from their creation to a consumer's connection, which is held to its limits."""

from __future__ import annotations

import re
import socket
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest

from tests.integration.clients import Cloud, CommandError, eventually, project_of
from tests.integration.conftest import Service

pytestmark = pytest.mark.timeout(240)


@pytest.fixture(scope="module")
def cloud(service: Service) -> Iterator[Cloud]:
    """An administrator in a project of this module."""
    with project_of(service, "qos") as one:
        yield one


def test_the_openstack_command(cloud: Cloud) -> None:
    qos, kind = ("volume", "qos"), "qos-kind"
    made = cloud.ask(*qos, "create", "--consumer", "front-end", "--property", "total_iops_sec=100", "q-one")
    assert (made["name"], made["consumer"], made["properties"]) == ("q-one", "front-end", {"total_iops_sec": "100"})
    with pytest.raises(CommandError, match="already exists"):
        cloud.openstack(*qos, "create", "q-one")
    cloud.openstack(*qos, "set", "--property", "total_iops_sec=200", "--property", "vendor=x", "q-one")
    cloud.openstack(*qos, "unset", "--property", "vendor", "q-one")
    cloud.openstack("volume", "type", "create", kind)
    cloud.openstack(*qos, "associate", "q-one", kind)
    shown = cloud.ask(*qos, "show", "q-one")
    assert (shown["properties"], shown["associations"]) == ({"total_iops_sec": "200"}, [kind])
    listed = {each["Name"]: each for each in cloud.ask(*qos, "list")}
    assert (listed["q-one"]["Consumer"], listed["q-one"]["Associations"]) == ("front-end", [kind])

    volume = cloud.create(1, volume_type=kind)
    body = {"attachment": {"volume_uuid": volume["id"], "connector": {"host": socket.gethostname()}}}
    answer = cloud.call("POST", "/attachments", body, minor=27)
    assert answer.status_code == 200, answer.text
    attachment = answer.json()["attachment"]
    assert attachment["connection_info"]["qos_specs"] == {"total_iops_sec": "200"}
    assert cloud.call("DELETE", f"/attachments/{attachment['id']}", minor=27).status_code == 200
    cloud.delete("volumes", volume["id"])

    with pytest.raises(CommandError, match=r"still in use|failed to delete"):
        cloud.openstack(*qos, "delete", "q-one")
    cloud.openstack(*qos, "disassociate", "--volume-type", kind, "q-one")
    assert cloud.ask(*qos, "show", "q-one").get("associations", []) == []
    cloud.openstack(*qos, "associate", "q-one", kind)
    cloud.openstack(*qos, "disassociate", "--all", "q-one")
    cloud.openstack(*qos, "associate", "q-one", kind)
    cloud.openstack(*qos, "delete", "--force", "q-one")
    assert "q-one" not in [each["Name"] for each in cloud.ask(*qos, "list")]
    cloud.openstack("volume", "type", "delete", kind)


def test_cinderclient(cloud: Cloud) -> None:
    client = cloud.cinderclient(71)
    made = client.qos_specs.create("q-two", {"consumer": "both", "read_iops_sec": "5"})
    assert (made.consumer, made.specs) == ("both", {"read_iops_sec": "5"})
    client.qos_specs.set_keys(made.id, {"write_iops_sec": "7"})
    client.qos_specs.unset_keys(made.id, ["read_iops_sec"])
    assert client.qos_specs.get(made.id).specs == {"write_iops_sec": "7"}
    kind = client.volume_types.create("qos-kind-two")
    client.qos_specs.associate(made.id, kind.id)
    assert [each.id for each in client.qos_specs.get_associations(made.id)] == [kind.id]
    assert client.volume_types.get(kind.id).qos_specs_id == made.id
    client.qos_specs.disassociate_all(made.id)
    assert client.qos_specs.get_associations(made.id) == []
    client.qos_specs.delete(made.id)
    client.volume_types.delete(kind)
    assert "q-two" not in cloud.cinder("qos-list")


def _attached(cloud: Cloud, volume_id: str) -> dict[str, Any]:
    body = {"attachment": {"volume_uuid": volume_id, "connector": {"host": socket.gethostname()}}}
    answer = cloud.call("POST", "/attachments", body, minor=27)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()["attachment"]
    return found


def _writes_a_second(device: str) -> float:
    """Of 4 KiB, eight at a time, over some three seconds where the limit is 100."""
    command = ["qemu-img", "bench", "-w", "-c", "300", "-d", "8", "-s", "4096", "-t", "none", "-f", "raw", device]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    found = re.search(r"Run completed in ([\d.]+) seconds", done.stdout)
    assert found, done.stdout
    return 300 / float(found[1])


def test_back_end_limits_hold_on_the_device(cloud: Cloud) -> None:
    """From specs to a rate: the device of the consumer has the type's limit, another's has none, and no limit is left
    on the machine when the attachment is gone."""
    client = cloud.cinderclient(71)
    spec = client.qos_specs.create("q-three", {"consumer": "back-end", "write_iops_sec": "100"})
    kind = client.volume_types.create("qos-kind-three")
    client.qos_specs.associate(spec.id, kind.id)
    limited, free = cloud.create(1, volume_type="qos-kind-three"), cloud.create(1)
    attachments = [_attached(cloud, volume["id"]) for volume in (limited, free)]
    infos = [attachment["connection_info"] for attachment in attachments]
    assert [info["qos_specs"] for info in infos] == [None, None], "the consumer is not asked to see to it"
    rate = _writes_a_second(infos[0]["device_path"])
    if rate < 90:  # a throttle bounds from above; the machine may be busy
        rate = _writes_a_second(infos[0]["device_path"])
    assert 90 <= rate <= 110
    assert _writes_a_second(infos[1]["device_path"]) > 200

    client.qos_specs.set_keys(spec.id, {"write_iops_sec": "200"})
    eventually(lambda: 180 <= _writes_a_second(infos[0]["device_path"]) <= 220, "attached volumes have the new limit")
    client.qos_specs.set_keys(spec.id, {"write_iops_sec": "100"})

    for attachment in attachments:
        assert cloud.call("DELETE", f"/attachments/{attachment['id']}", minor=27).status_code == 200
    again = _attached(cloud, free["id"])
    assert again["connection_info"]["device_path"] in [info["device_path"] for info in infos]
    assert _writes_a_second(again["connection_info"]["device_path"]) > 200, "a number that is used again"
    assert cloud.call("DELETE", f"/attachments/{again['id']}", minor=27).status_code == 200

    client.qos_specs.set_keys(spec.id, {"total_bytes_sec": "1000000"})
    body = {"attachment": {"volume_uuid": limited["id"], "connector": {"host": socket.gethostname()}}}
    refused = cloud.call("POST", "/attachments", body, minor=27)
    assert refused.status_code == 400, refused.text
    for volume in (limited, free):
        for each in cloud.call("GET", f"/attachments?volume_id={volume['id']}", minor=27).json()["attachments"]:
            assert cloud.call("DELETE", f"/attachments/{each['id']}", minor=27).status_code == 200
        cloud.delete("volumes", volume["id"])
    client.volume_types.delete(kind)
    client.qos_specs.delete(spec.id)
