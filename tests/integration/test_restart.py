"""An instance of its own is stopped, killed and started again: what was there is found, what was under way settles."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.integration import disk
from tests.integration.clients import NEWEST, Cloud, administrator, eventually
from tests.integration.conftest import Service, _place

pytestmark = pytest.mark.timeout(600)
_BLOCK = os.urandom(disk.BLOCK)


@pytest.fixture(scope="module")
def instance() -> Iterator[Service]:
    """A running instance that the other tests don't share."""
    with _place("restart") as one:
        one.up()
        yield one


@pytest.fixture
def cloud(instance: Service) -> Iterator[Cloud]:
    """Its administrator, without limits; the project is empty at the end."""
    one = administrator(instance)
    unlimited = {"quota_set": {"volumes": -1, "gigabytes": -1, "snapshots": -1}}
    assert one.call("PUT", f"/os-quota-sets/{one.project_id}", unlimited).status_code == 200
    yield one
    one.purge()


def _pid(instance: Service, name: str) -> int:
    """The process of an actor, once there is one."""
    return eventually(
        lambda: next((pid for pid, title in instance.processes().items() if f"ray::{name}" in title), 0),
        f"there is a process ray::{name}",
    )


def _create_many(cloud: Cloud, count: int) -> list[str]:
    def create(number: int) -> str:
        answer = cloud.call("POST", "/volumes", {"volume": {"size": 1, "name": f"v{number}"}}, minor=NEWEST)
        assert answer.status_code == 202, answer.text
        return str(answer.json()["volume"]["id"])

    assert cloud.project_id  # logged in before the threads begin
    with ThreadPoolExecutor(8) as threads:
        return list(threads.map(create, range(count)))


def _settled(cloud: Cloud, ids: list[str]) -> dict[str, str]:
    """Status by id, once nothing is under way any more."""

    def statuses() -> dict[str, str]:
        listed = cloud.call("GET", "/volumes/detail", minor=NEWEST).json()["volumes"]
        found = {item["id"]: item["status"] for item in listed}
        return {} if {"creating", "deleting", "extending"} & set(found.values()) else found

    found = eventually(statuses, "everything settles", seconds=150)
    assert set(found) == set(ids)
    return dict(found)


def _check_disk(cloud: Cloud, statuses: dict[str, str]) -> None:
    """On disk is one file for each available volume, and nothing else, whole or half-made."""
    available = {f"volume-{item}" for item, status in statuses.items() if status == "available"}
    assert disk.files(cloud.service) == available
    for name in available:
        assert (disk.pool(cloud.service) / "volumes" / name).stat().st_size == disk.GIB


def test_stop_and_start(cloud: Cloud, instance: Service) -> None:
    volume = cloud.create(1, name="kept", metadata={"k": "v"})
    disk.write(disk.volume_file(instance, volume["id"]), 12345, _BLOCK)
    snapshot = cloud.snapshot(volume["id"], name="point")
    clone = cloud.create(2, source_volid=volume["id"])
    contents = {
        path: disk.blocks(path)
        for path in (
            disk.volume_file(instance, volume["id"]),
            disk.snapshot_file(instance, snapshot["id"]),
            disk.volume_file(instance, clone["id"]),
        )
    }
    assert all(contents.values())
    clouds = instance.clouds_yaml.read_text()

    instance.down()
    assert not disk.volume_file(instance, volume["id"]).exists()
    instance.up()

    assert instance.clouds_yaml.read_text() == clouds
    assert cloud.call("GET", f"/volumes/{volume['id']}").status_code == 200, "the old token is still good"
    assert cloud.show("volumes", volume["id"]) == volume
    assert cloud.show("snapshots", snapshot["id"]) == snapshot
    assert cloud.show("volumes", clone["id"]) == clone
    assert {path: disk.blocks(path) for path in contents} == contents
    again = cloud.create(1, snapshot_id=snapshot["id"])
    kept = contents[disk.snapshot_file(instance, snapshot["id"])]
    assert disk.blocks(disk.volume_file(instance, again["id"])) == kept


@pytest.mark.parametrize("actor", ["VolumeActor", "ConductorActor", "SchedulerActor"])
def test_an_actor_is_killed_while_creates_are_under_way(cloud: Cloud, instance: Service, actor: str) -> None:
    victim = _pid(instance, actor)
    first = _create_many(cloud, 8)
    os.kill(victim, signal.SIGKILL)
    ids = first + _create_many(cloud, 8)
    statuses = _settled(cloud, ids)
    # Nothing here is a reason to refuse a volume: killed is uncertain, and uncertain is tried again.
    assert set(statuses.values()) == {"available"}
    _check_disk(cloud, statuses)
    assert _pid(instance, actor) != victim


def test_an_actor_is_killed_while_deletes_and_copies_are_under_way(cloud: Cloud, instance: Service) -> None:
    source = cloud.create(1)
    disk.write(disk.volume_file(instance, source["id"]), 0, _BLOCK)
    content = disk.blocks(disk.volume_file(instance, source["id"]))
    doomed = _create_many(cloud, 6)
    _settled(cloud, [source["id"], *doomed])
    for item in doomed:
        assert cloud.call("DELETE", f"/volumes/{item}").status_code == 202
    copies = []
    for _ in range(4):
        answer = cloud.call("POST", "/volumes", {"volume": {"size": 1, "source_volid": source["id"]}})
        assert answer.status_code == 202, answer.text
        copies.append(answer.json()["volume"]["id"])
    os.kill(_pid(instance, "VolumeActor"), signal.SIGKILL)
    statuses = _settled(cloud, [source["id"], *copies])
    assert set(statuses.values()) == {"available"}
    _check_disk(cloud, statuses)
    for item in copies:
        assert disk.blocks(disk.volume_file(instance, item)) == content


def test_everything_is_killed_at_once(cloud: Cloud, instance: Service) -> None:
    supervisor = json.loads(instance.run("status", "--json", timeout=60).stdout)["pid"]
    ids = _create_many(cloud, 12)
    os.kill(supervisor, signal.SIGKILL)  # first, or it would mend what dies
    deadline = time.monotonic() + 30
    while running := instance.processes():
        assert time.monotonic() < deadline, running
        for pid in running:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
    # A setting of the next start: tokens given from then on are short-lived, those from before keep their time.
    instance.variables["PUMICE_IDENTITY__TOKEN_SECONDS"] = "5"
    instance.up()
    statuses = _settled(cloud, ids)
    assert set(statuses.values()) == {"available"}
    _check_disk(cloud, statuses)

    headers = {"X-Auth-Token": cloud.login()[0]}
    assert cloud.http.get("/v3/volumes", headers=headers).status_code == 200
    eventually(lambda: cloud.http.get("/v3/volumes", headers=headers).status_code == 401, "the token has ended")
    assert cloud.call("GET", "/volumes").status_code == 200
