"""iSCSI with CHAP and NBD with TLS-PSK on an instance of its own, by user-space initiators that know only what the API
tells: bytes, who is refused, what becomes of consumers when all that serves them is killed, what is left behind."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests import initiators
from tests.integration import disk
from tests.integration.clients import NEWEST, Cloud, administrator, eventually
from tests.integration.conftest import Service, _place

pytestmark = pytest.mark.timeout(400)
_INITIATOR = "iqn.1994-05.com.example:consumer"
_HERE = {
    "host": socket.gethostname(),
    "ip": "127.0.0.1",
    "initiator": _INITIATOR,
    "platform": "x86_64",
    "os_type": "linux",
    "multipath": False,
}
_TOOLS = {
    "qemu-io": "qemu-utils",
    "qemu-storage-daemon": "qemu-system-common",
    "tgtd": "tgt",
    "iscsi-ls": "libiscsi-bin",
}
_PROTOCOLS = ("iscsi", "nbd")
_SERVERS = ("tgtd", "qemu-storage-daemon")


@pytest.fixture(scope="module")
def instance() -> Iterator[Service]:
    """A running instance whose volumes are reached by the network only."""
    for tool, package in _TOOLS.items():
        assert shutil.which(tool), f"{tool} is missing: apt-get install {package}"
    with _place("network") as one:
        exports = {"exports": list(_PROTOCOLS), "export_options": {"nbd": {"transport": "tcp"}}}
        one.variables["PUMICE_BACKENDS"] = json.dumps({"reflink": exports})
        one.variables["PUMICE_TIMING__RECONCILE"] = "3"
        one.variables["PUMICE_JOBS"] = "false"
        one.up()
        yield one


@pytest.fixture(scope="module")
def cloud(instance: Service) -> Cloud:
    """Its administrator; of each protocol there is a volume type."""
    admin = administrator(instance)
    for protocol in _PROTOCOLS:
        kind = {"name": protocol, "extra_specs": {"storage_protocol": protocol}}
        answer = admin.call("POST", "/types", {"volume_type": kind}, minor=NEWEST)
        assert answer.status_code == 200, answer.text
    return admin


def _attach(cloud: Cloud, volume: str, connector: dict[str, Any] = _HERE) -> tuple[str, dict[str, Any]]:
    """By python-cinderclient, as a service would: the attachment's id and how to connect."""
    attachments = cloud.cinderclient().attachments
    made = attachments.create(volume, connector, str(uuid.uuid4()))
    attachments.complete(made["id"])
    assert cloud.show("volumes", volume)["status"] == "in-use"
    return made["id"], made["connection_info"]


def _detach(cloud: Cloud, volume: str, attachment: str) -> None:
    cloud.cinderclient().attachments.delete(attachment)
    assert cloud.show("volumes", volume)["status"] == "available"


@contextmanager
def _attached(cloud: Cloud, protocol: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """A volume in use by that protocol: its id and how to connect. Afterwards it is gone."""
    volume = cloud.create(1, volume_type=protocol)["id"]
    attachment, info = _attach(cloud, volume)
    assert info["driver_volume_type"] == protocol
    yield volume, info
    _detach(cloud, volume, attachment)
    cloud.delete("volumes", volume)


def _io(target: initiators.Target, *commands: str) -> bool:
    """Whether a consumer that opens it can do all of that."""
    orders = [part for command in commands for part in ("-c", command)]
    command = ["qemu-io", "-t", "none", *target.arguments(), *orders, target.image]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    except subprocess.TimeoutExpired:  # libiscsi goes on trying where nobody listens
        return False
    return done.returncode == 0 and not any(word in done.stdout for word in ("failed", "error"))


def _target(info: dict[str, Any], directory: Path) -> initiators.Target:
    return initiators.of_info(info, _INITIATOR, directory)


def _pids(instance: Service, name: str) -> list[int]:
    return [pid for pid, title in instance.processes().items() if name in title]


def _listens(info: dict[str, Any]) -> bool:
    host, _, port = info.get("target_portal", f"{info.get('host')}:{info.get('port')}").rpartition(":")
    with socket.socket() as trial:
        return trial.connect_ex((host, int(port))) == 0


def _targets(info: dict[str, Any]) -> list[str]:
    """The names of the targets that the portal tells to the consumer."""
    portal = f"iscsi://{info['target_portal']}"
    said = subprocess.run(["iscsi-ls", "-i", _INITIATOR, portal], capture_output=True, text=True, timeout=20)
    return re.findall(r"Target:(\S+)", said.stdout)


def test_what_is_written_by_one_protocol_is_read_by_the_other(cloud: Cloud, instance: Service, tmp_path: Path) -> None:
    volume = cloud.create(1)["id"]  # its type says no protocol: the first export that serves the connector is taken
    file = disk.volume_file(instance, volume)

    attachment, info = _attach(cloud, volume)
    assert (info["driver_volume_type"], info["auth_method"]) == ("iscsi", "CHAP")
    assert _io(_target(info, tmp_path), "write -P 0x5a 1M 64k", "write -P 0x5b 1023M 1M", "flush")
    _detach(cloud, volume, attachment)
    assert not _io(_target(info, tmp_path), "read 0 4k"), "whoever was detached is not let in"
    assert disk.read(file, 1 << 20, 64 << 10) == b"\x5a" * (64 << 10)

    nameless = {key: value for key, value in _HERE.items() if key != "initiator"}
    attachment, info = _attach(cloud, volume, nameless)
    assert (info["driver_volume_type"], info["transport"], info["tls"]) == ("nbd", "tcp", "psk")
    target = _target(info, tmp_path)
    assert _io(target, "read -P 0x5a 1M 64k", "read -P 0x5b 1023M 1M", "read -P 0 0 1M")
    assert not _io(target, "read -P 0x11 1M 64k"), "qemu-io compares what it reads"
    assert _io(target, "write -P 0xa5 1M 4k", "flush")
    _detach(cloud, volume, attachment)
    assert not _io(target, "read 0 4k")

    assert disk.read(file, 1 << 20, 64 << 10) == b"\xa5" * 4096 + b"\x5a" * (60 << 10)
    assert disk.read(file, 1023 << 20, 1 << 20) == b"\x5b" * (1 << 20)
    assert len(disk.blocks(file)) == 17, "nothing else was written"
    cloud.delete("volumes", volume)


def test_who_is_not_the_attached_consumer_is_refused(cloud: Cloud, tmp_path: Path) -> None:
    with _attached(cloud, "iscsi") as (_, info):
        user, password = info["auth_username"], info["auth_password"]
        strangers = {
            "another initiator": initiators.iscsi(info, user, password, f"{_INITIATOR}-2", tmp_path),
            "a wrong password": initiators.iscsi(info, user, "0" * 32, _INITIATOR, tmp_path),
            "another user": initiators.iscsi(info, str(uuid.uuid4()), password, _INITIATOR, tmp_path),
        }
        for who, target in strangers.items():
            assert not _io(target, "read 0 4k"), who
        assert _io(_target(info, tmp_path), "read -P 0 0 4k")
    with _attached(cloud, "nbd") as (_, info), _attached(cloud, "nbd") as (_, another):
        identity, export = info["psk_identity"], info["export"]
        strangers = {
            "a wrong key": initiators.nbd_by_tls(info, identity, os.urandom(32).hex(), export, tmp_path),
            "another consumer": initiators.nbd_by_tls(
                info, another["psk_identity"], another["psk_key"], export, tmp_path
            ),
        }
        for who, target in strangers.items():
            assert not _io(target, "read 0 4k"), who
        assert _io(_target(info, tmp_path), "read -P 0 0 4k")


def test_all_that_serves_is_killed_and_it_is_served_again_where_it_was(
    cloud: Cloud, instance: Service, tmp_path: Path
) -> None:
    with _attached(cloud, "iscsi") as (first, by_iscsi), _attached(cloud, "nbd") as (second, by_nbd):
        targets = [_target(by_iscsi, tmp_path), _target(by_nbd, tmp_path)]
        for number, target in enumerate(targets, start=1):
            assert _io(target, f"write -P {number} 0 64k", "flush")
        daemons = {name: _pids(instance, name) for name in _SERVERS}
        assert [len(pids) for pids in daemons.values()] == [1, 2], "a target daemon, an NBD daemon and its gateway"
        for pid in [*_pids(instance, "ray::VolumeActor"), *daemons["tgtd"], *daemons["qemu-storage-daemon"]]:
            os.kill(pid, signal.SIGKILL)

        # By what the consumers were told at first: at the same place, under the same secret.
        for number, target in enumerate(targets, start=1):
            reads = f"read -P {number} 0 64k"
            eventually(lambda target=target, reads=reads: _io(target, reads), f"{target.image} is served again")
            assert _io(target, f"write -P {number + 16} 64k 64k", "flush")
        for name in _SERVERS:
            assert not set(_pids(instance, name)) & set(daemons[name])
        for number, volume in enumerate((first, second), start=1):
            expected = bytes([number]) * (64 << 10) + bytes([number + 16]) * (64 << 10)
            assert disk.read(disk.volume_file(instance, volume), 0, 128 << 10) == expected
            assert cloud.show("volumes", volume)["status"] == "in-use"


def test_after_the_last_detachment_nothing_serves(cloud: Cloud, instance: Service, tmp_path: Path) -> None:
    with _attached(cloud, "iscsi") as (_, by_iscsi), _attached(cloud, "nbd") as (_, by_nbd):
        assert _targets(by_iscsi) == [by_iscsi["target_iqn"]]
        assert _listens(by_nbd)
        assert len(_pids(instance, "gateway.pid")) == 1
    assert _targets(by_iscsi) == []
    assert not _listens(by_nbd)
    assert _pids(instance, "gateway.pid") == []
    directory = instance.state_dir / "exports" / "reflink" / "nbd" / "tcp"
    assert list(directory.iterdir()) == [], "neither keys nor records"
