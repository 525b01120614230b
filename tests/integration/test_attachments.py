"""Attachments of a real instance: the stock clients, the calls of cinder-csi, and bytes through the device."""

from __future__ import annotations

import dataclasses
import os
import re
import socket
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.integration.clients import Cloud, CommandError, eventually, project_of
from tests.integration.compute_server import compute_server
from tests.integration.conftest import Service

pytestmark = [pytest.mark.timeout(240), pytest.mark.filterwarnings("ignore::Warning:openstack")]
_HERE = {"host": socket.gethostname(), "platform": "x86_64", "os_type": "linux", "multipath": False}


@pytest.fixture(scope="module")
def cloud(service: Service) -> Iterator[Cloud]:
    """A project for this module, whose user is no administrator."""
    with project_of(service, "attach", "member") as one:
        yield one


@pytest.fixture
def volume(cloud: Cloud) -> Iterator[str]:
    """An available volume; it must be available again at the end."""
    made = cloud.create(1, name=f"v-{uuid.uuid4().hex[:6]}")
    yield made["id"]
    assert cloud.show("volumes", made["id"])["status"] == "available"
    cloud.delete("volumes", made["id"])


@pytest.fixture(scope="module")
def with_nova(cloud: Cloud) -> Iterator[Cloud]:
    """The same user, for whom there is a Nova."""
    with compute_server() as compute:
        clouds = yaml.safe_load(cloud.clouds_yaml.read_text())
        clouds["clouds"]["pumice"]["compute_endpoint_override"] = compute.endpoint
        path = cloud.clouds_yaml.with_suffix(".nova.yaml")
        path.write_text(yaml.safe_dump(clouds))
        yield dataclasses.replace(cloud, clouds_yaml=path)


def _device(info: dict[str, Any], volume: str) -> Path:
    """The device of a connection on this node."""
    assert info["driver_volume_type"] == "local"
    path = Path(info["device_path"])
    assert (path.exists(), info["volume_id"]) == (True, volume)
    return path


def test_what_cinder_csi_does(cloud: Cloud, volume: str) -> None:
    body = {"attachment": {"volume_uuid": volume, "connector": _HERE | {"mountpoint": "/dev/pumice"}}}
    answer = cloud.call("POST", "/attachments", body, minor=27)
    assert answer.status_code == 200, answer.text
    made = answer.json()["attachment"]
    assert (made["status"], made["attach_mode"], made["instance"]) == ("attaching", "rw", None)
    info = made["connection_info"]
    added = {"attachment_id", "access_mode", "encrypted", "qos_specs", "cacheable", "enforce_multipath"}
    assert added <= info.keys()
    device = _device(info, volume)

    answer = cloud.call("POST", f"/attachments/{made['id']}/action", {"os-complete": {}}, minor=44)
    assert (answer.status_code, answer.content) == (204, b"")
    shown = cloud.show("volumes", volume)
    (seen,) = shown["attachments"]
    assert (shown["status"], seen["attachment_id"], seen["device"]) == ("in-use", made["id"], "/dev/pumice")
    assert seen["host_name"] is None

    written = os.urandom(4096)
    with device.open("r+b") as stream:
        stream.write(written)
        os.fsync(stream.fileno())
    answer = cloud.call("DELETE", f"/attachments/{made['id']}", minor=27)
    assert (answer.status_code, answer.json()) == (200, {"attachments": []})
    assert cloud.show("volumes", volume)["status"] == "available"

    body["attachment"] |= {"mode": "ro"}
    made = cloud.call("POST", "/attachments", body, minor=54).json()["attachment"]
    device = _device(made["connection_info"], volume)
    with device.open("rb") as stream:
        assert stream.read(4096) == written
    with pytest.raises(OSError, match=r"Operation not permitted|Read-only"), device.open("r+b") as stream:
        stream.write(written)
        stream.flush()
    assert cloud.call("DELETE", f"/attachments/{made['id']}", minor=27).status_code == 200


def test_the_openstack_command(with_nova: Cloud, volume: str) -> None:
    cloud, server = with_nova, str(uuid.uuid4())
    new = ("--os-volume-api-version", "3.54", "volume", "attachment")
    made = cloud.ask(*new, "create", "--mode", "rw", "--server", server, volume)
    assert (made["Status"], made["Instance ID"], made["Properties"]) == ("reserved", server, {})
    attachment = made["ID"]
    assert [each["ID"] for each in cloud.ask(*new, "list", "--volume-id", volume)] == [attachment]

    connected = cloud.ask(*new, "set", "--host", _HERE["host"], "--mountpoint", "/dev/vdx", attachment)
    assert (connected["Status"], connected["Attach Mode"]) == ("attaching", "rw")
    _device(connected["Properties"], volume)
    cloud.openstack(*new, "complete", attachment)
    assert cloud.ask(*new, "show", attachment)["Status"] == "attached"
    (listed,) = cloud.ask(*new, "list", "--status", "attached")
    assert (listed["ID"], listed["Volume ID"], listed["Server ID"]) == (attachment, volume, server)
    assert cloud.ask("volume", "show", volume)["status"] == "in-use"
    with pytest.raises(CommandError):
        cloud.openstack("volume", "delete", volume)

    cloud.openstack(*new, "delete", attachment)
    assert cloud.ask(*new, "list") == []
    again = cloud.ask(*new, "create", "--connect", "--host", _HERE["host"], "--server", server, volume)
    assert again["Status"] == "attaching"
    cloud.openstack(*new, "delete", again["ID"])


def test_the_cinder_command(cloud: Cloud, volume: str) -> None:
    server = str(uuid.uuid4())
    made = cloud.cinder("attachment-create", volume, server)
    attachment = re.search(r"\| id +\| ([0-9a-f-]{36})", made)
    assert attachment is not None, made
    one = attachment.group(1)
    assert "reserved" in cloud.cinder("attachment-show", one)
    assert "device_path" in cloud.cinder("attachment-update", one, "--host", _HERE["host"])
    cloud.cinder("attachment-complete", one)
    assert one in cloud.cinder("attachment-list", "--volume-id", volume)
    assert "attached" in cloud.cinder("attachment-show", one)
    cloud.cinder("attachment-delete", one)
    assert one not in cloud.cinder("attachment-list")
    made = cloud.cinder("attachment-create", volume, server, "--connect", "True", "--host", _HERE["host"])
    assert "device_path" in made
    client = cloud.cinderclient(54)
    (left,) = client.attachments.list(search_opts={"volume_id": volume})
    assert client.attachments.delete(left.id) is not None
    assert client.attachments.list() == []


def test_the_sdk(cloud: Cloud, volume: str) -> None:
    server = str(uuid.uuid4())
    with cloud.sdk() as sdk:
        storage = sdk.block_storage
        storage.default_microversion = "3.54"
        made = storage.create_attachment(volume, connector={}, instance=server)
        assert (made.status, made.instance) == ("reserved", server)
        made = storage.update_attachment(made.id, connector=_HERE)
        _device(made.connection_info, volume)
        storage.complete_attachment(made.id)
        assert storage.get_attachment(made.id).status == "attached"
        assert [each.id for each in storage.attachments()] == [made.id]
        assert storage.get_volume(volume).attachments[0]["server_id"] == server
        storage.extend_volume(volume, 2)
        eventually(lambda: storage.get_volume(volume).status == "in-use", "the volume is extended while it is in use")
        assert storage.get_volume(volume).size == 2
        device = _device(storage.get_attachment(made.id).connection_info, volume)
        with device.open("rb") as stream:
            assert stream.seek(0, os.SEEK_END) == 2 << 30
        storage.delete_attachment(made.id, ignore_missing=False)
        assert list(storage.attachments()) == []


def test_the_older_actions(cloud: Cloud, volume: str) -> None:
    with cloud.sdk() as sdk:
        storage = sdk.block_storage
        storage.reserve_volume(volume)
        assert storage.get_volume(volume).status == "attaching"
        storage.unreserve_volume(volume)
        assert storage.get_volume(volume).status == "available"
        storage.reserve_volume(volume)
        info = storage.init_volume_attachment(volume, _HERE)
        assert info["enforce_multipath"] is False
        _device(info["data"] | {"driver_volume_type": info["driver_volume_type"]}, volume)
        storage.attach_volume(volume, "/dev/vdz", host_name=_HERE["host"])
        shown = storage.get_volume(volume)
        (seen,) = shown.attachments
        assert (shown.status, seen["device"], shown.metadata["attached_mode"]) == ("in-use", "/dev/vdz", "rw")
        storage.begin_volume_detaching(volume)
        assert storage.get_volume(volume).status == "detaching"
        storage.abort_volume_detaching(volume)
        storage.begin_volume_detaching(volume)
        storage.terminate_volume_attachment(volume, _HERE)
        storage.detach_volume(volume, seen["attachment_id"])
        assert storage.get_volume(volume).status == "available"


def test_a_connector_of_another_node(cloud: Cloud, volume: str) -> None:
    connector = {"host": "elsewhere", "ip": "192.0.2.1"}
    body = {"attachment": {"volume_uuid": volume, "connector": connector}}
    answer = cloud.call("POST", "/attachments", body, minor=27)
    assert answer.status_code == 400, answer.text
    assert "serves this connector" in answer.json()["badRequest"]["message"]
    (left,) = cloud.call("GET", "/attachments", minor=27).json()["attachments"]
    assert left["status"] == "error_attaching"
    assert cloud.call("DELETE", f"/attachments/{left['id']}", minor=27).status_code == 200
