"""Exports of an instance of its own: bytes through NBD, and what is attached when processes or the instance end."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.integration import disk
from tests.integration.clients import NEWEST, Cloud, administrator, eventually
from tests.integration.conftest import Service, _place

pytestmark = pytest.mark.timeout(400)
_RECONCILE_SECONDS = 3
_HERE = {"host": socket.gethostname(), "platform": "x86_64", "os_type": "linux", "multipath": False}
_DAEMON = "qemu-storage-daemon"


@pytest.fixture(scope="module")
def instance() -> Iterator[Service]:
    """A running instance whose volumes are reached by NBD, and by devices where a type says so."""
    for tool, package in {"qemu-io": "qemu-utils", _DAEMON: "qemu-system-common"}.items():
        assert shutil.which(tool), f"{tool} is missing: apt-get install {package}"
    with _place("exports") as one:
        one.variables["PUMICE_BACKENDS"] = json.dumps({"reflink": {"exports": ["nbd", "local"]}})
        one.variables["PUMICE_TIMING__RECONCILE"] = str(_RECONCILE_SECONDS)
        one.variables["PUMICE_JOBS"] = "false"
        one.up()
        yield one


@pytest.fixture(scope="module")
def cloud(instance: Service) -> Cloud:
    """Its administrator."""
    return administrator(instance)


@contextmanager
def _attached(cloud: Cloud, **values: Any) -> Iterator[tuple[str, str]]:
    """A volume that is in use on this node: its id and its attachment's. Afterwards both are gone."""
    volume = cloud.create(1, **values)["id"]
    body = {"attachment": {"volume_uuid": volume, "connector": _HERE}}
    answer = cloud.call("POST", "/attachments", body, minor=NEWEST)
    assert answer.status_code == 200, answer.text
    attachment = answer.json()["attachment"]["id"]
    answer = cloud.call("POST", f"/attachments/{attachment}/action", {"os-complete": {}}, minor=NEWEST)
    assert answer.status_code == 204, answer.text
    yield volume, attachment
    answer = cloud.call("DELETE", f"/attachments/{attachment}", minor=NEWEST)
    assert answer.status_code == 200, answer.text
    assert cloud.show("volumes", volume)["status"] == "available"
    cloud.delete("volumes", volume)


def _info(cloud: Cloud, attachment: str) -> dict[str, Any]:
    answer = cloud.call("GET", f"/attachments/{attachment}", minor=NEWEST)
    assert answer.status_code == 200, answer.text
    return dict(answer.json()["attachment"]["connection_info"])


def _image(info: dict[str, Any], *options: str) -> list[str]:
    assert (info["driver_volume_type"], info["transport"]) == ("nbd", "unix")
    where = f"driver=nbd,server.type=unix,server.path={info['socket']},export={info['export']}"
    return ["--image-opts", ",".join((where, *options))]


def _io(info: dict[str, Any], *commands: str) -> bool:
    """Whether a consumer of its own can do all of that."""
    orders = [part for command in commands for part in ("-c", command)]
    done = subprocess.run(
        ["qemu-io", "-t", "none", *orders, *_image(info)], capture_output=True, text=True, timeout=60, check=False
    )
    return done.returncode == 0 and not any(word in done.stdout for word in ("failed", "error"))


class _Session:
    """A consumer that keeps the volume open, as a guest does."""

    def __init__(self, info: dict[str, Any], *options: str) -> None:
        command = ["qemu-io", "-t", "none", *_image(info, *options)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def does(self, command: str) -> bool:
        """Whether the order succeeds, however long it waits."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{command}\n")
        self._process.stdin.flush()
        for line in self._process.stdout:
            if " ops; " in line:
                return True
            if "failed" in line or "error" in line:
                return False
        return False

    def close(self) -> None:
        """End it."""
        self._process.kill()
        self._process.communicate()


def _pids(instance: Service, name: str) -> list[int]:
    return [pid for pid, title in instance.processes().items() if name in title]


def _kill(instance: Service, name: str) -> None:
    (pid,) = _pids(instance, name)
    os.kill(pid, signal.SIGKILL)
    eventually(lambda: pid not in _pids(instance, name), f"{name} {pid} is gone")


def _sockets(instance: Service) -> list[Path]:
    return [path for path in instance.state_dir.rglob("*") if path.is_socket()]


def test_what_a_consumer_writes_is_in_the_volume(cloud: Cloud, instance: Service) -> None:
    with _attached(cloud) as (volume, attachment):
        info = _info(cloud, attachment)
        assert _io(info, "write -P 0x5a 1M 64k", "flush")
        file = disk.volume_file(instance, volume)
        assert disk.read(file, 1 << 20, 64 << 10) == b"\x5a" * (64 << 10)
        disk.write(file, 8 << 20, b"\xa5" * disk.BLOCK)
        assert _io(info, f"read -P 0xa5 8M {disk.BLOCK}", "read -P 0x5a 1M 64k", "read -P 0 2M 64k")
        assert not _io(info, "read -P 0x11 1M 64k"), "qemu-io compares what it reads"
    assert not _io(info, "read 0 4k"), "whoever was detached is not let in"


def test_what_is_attached_is_served_again_when_its_server_dies(cloud: Cloud, instance: Service) -> None:
    with _attached(cloud) as (_volume, attachment):
        info = _info(cloud, attachment)
        session = _Session(info, "reconnect-delay=120")
        try:
            assert session.does("write -P 0x11 0 64k")
            (daemon,) = _pids(instance, _DAEMON)
            _kill(instance, "ray::VolumeActor")
            assert session.does("write -P 0x22 64k 64k")
            eventually(lambda: _pids(instance, "ray::VolumeActor"), "the volume actor is back")
            assert _pids(instance, _DAEMON) == [daemon]

            _kill(instance, _DAEMON)
            begun = time.monotonic()
            assert session.does("read -P 0x22 64k 64k"), "the session goes on where its server comes back"
            print(f"served again {time.monotonic() - begun:.1f} s after the kill")
            _kill(instance, "ray::VolumeActor")
            _kill(instance, _DAEMON)
            assert session.does("read -P 0x11 0 64k")
        finally:
            session.close()
        assert _info(cloud, attachment) == info
        assert cloud.show("volumes", info["volume_id"])["status"] == "in-use"


def test_what_is_attached_outlives_the_control_plane(cloud: Cloud, instance: Service) -> None:
    with _attached(cloud) as (_volume, attachment):
        info = _info(cloud, attachment)
        session = _Session(info)
        try:
            assert session.does("write -P 0x33 0 64k")
            (daemon,) = _pids(instance, _DAEMON)
            supervisor = json.loads(instance.run("status", "--json", timeout=60).stdout)["pid"]
            os.kill(supervisor, signal.SIGKILL)
            instance.up()
            assert session.does("read -P 0x33 0 64k"), "nothing took the consumer's connection away"
        finally:
            session.close()
        assert _pids(instance, _DAEMON) == [daemon]
        assert _io(_info(cloud, attachment), "read -P 0x33 0 64k")


def test_down_gives_everything_back_and_up_serves_what_is_attached(cloud: Cloud, instance: Service) -> None:
    kind = {"volume_type": {"name": "devices", "extra_specs": {"storage_protocol": "local"}}}
    answer = cloud.call("POST", "/types", kind, minor=NEWEST)
    assert answer.status_code == 200, answer.text
    with _attached(cloud) as (_, by_nbd), _attached(cloud, volume_type="devices") as (_, by_device):
        assert _io(_info(cloud, by_nbd), "write -P 0x44 0 64k", "flush")
        device = Path(_info(cloud, by_device)["device_path"])
        disk.write(device, 0, b"\x55" * disk.BLOCK)
        assert _pids(instance, _DAEMON)

        instance.down()
        assert _pids(instance, _DAEMON) == []
        assert _sockets(instance) == []

        instance.up()
        eventually(lambda: _io(_info(cloud, by_nbd), "read -P 0x44 0 64k"), "NBD serves the volume again")

        def content() -> bytes:
            path = Path(_info(cloud, by_device)["device_path"])
            with path.open("rb") as stream:
                return stream.read(disk.BLOCK)

        eventually(lambda: content() == b"\x55" * disk.BLOCK, "the device is there again")
