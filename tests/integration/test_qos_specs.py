"""QoS specs by the stock clients, from their creation to a consumer's connection."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from tests.integration.clients import Cloud, CommandError, project_of
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
