"""python-cinderclient: the library at several microversions, and the `cinder` command."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import cinderclient.exceptions
import pytest

from tests.integration.clients import Cloud, eventually, project_of
from tests.integration.conftest import Service

pytestmark = pytest.mark.timeout(240)
_VERSIONS = (0, 12, 27, 45, 53, 63, 71)


@pytest.fixture(scope="module")
def cloud(service: Service) -> Iterator[Cloud]:
    """A project for this module."""
    with project_of(service, "cinder") as one:
        yield one


def _settled(manager: Any, item_id: str) -> Any:
    item = eventually(
        lambda: (one := manager.get(item_id)).status not in ("creating", "extending") and one, f"{item_id} settles"
    )
    assert item.status == "available"
    return item


def _gone(manager: Any, item_id: str) -> None:
    def missing() -> bool:
        try:
            manager.get(item_id)
        except cinderclient.exceptions.NotFound:
            return True
        return False

    eventually(missing, f"{item_id} is gone")


@pytest.mark.parametrize("minor", _VERSIONS)
def test_the_library(cloud: Cloud, minor: int) -> None:
    client = cloud.cinderclient(minor)
    volume = client.volumes.create(1, name=f"v{minor}", metadata={"a": "b"})
    volume = _settled(client.volumes, volume.id)
    assert (volume.name, volume.size, volume.metadata, volume.bootable) == (f"v{minor}", 1, {"a": "b"}, "false")
    assert hasattr(volume, "volume_type_id") is (minor >= 63)

    client.volumes.extend(volume, 2)
    assert _settled(client.volumes, volume.id).size == 2
    client.volumes.update(volume, name="renamed", description="d")
    client.volumes.set_metadata(volume, {"c": "d"})
    client.volumes.delete_metadata(volume, ["a"])
    client.volumes.set_bootable(volume, True)
    client.volumes.update_readonly_flag(volume, True)
    volume = client.volumes.get(volume.id)
    assert (volume.name, volume.description, volume.bootable) == ("renamed", "d", "true")
    assert volume.metadata == {"c": "d", "readonly": "True"}

    snapshot = client.volume_snapshots.create(volume.id, name="s")
    snapshot = _settled(client.volume_snapshots, snapshot.id)
    assert (snapshot.volume_id, snapshot.size) == (volume.id, 2)
    copy = client.volumes.create(2, snapshot_id=snapshot.id)
    twin = client.volumes.create(2, source_volid=volume.id)
    for one in (copy, twin):
        _settled(client.volumes, one.id)
    assert {one.id for one in client.volumes.list()} == {volume.id, copy.id, twin.id}
    assert [one.id for one in client.volumes.list(search_opts={"name": "renamed"})] == [volume.id]
    assert len(client.volumes.list(limit=2)) == 2
    with pytest.raises(cinderclient.exceptions.BadRequest, match="snapshots"):
        client.volumes.delete(volume)

    client.volume_snapshots.delete(snapshot)
    _gone(client.volume_snapshots, snapshot.id)
    client.volumes.reset_state(copy, "error")
    client.volumes.force_delete(copy)
    for one in (volume, twin):
        client.volumes.delete(one)
    for one in (volume, copy, twin):
        _gone(client.volumes, one.id)


def test_what_a_version_brings(cloud: Cloud) -> None:
    old, new = cloud.cinderclient(0), cloud.cinderclient(71)
    assert new.volumes.summary(all_tenants=False)["volume-summary"]["total_count"] == 0
    assert isinstance(new.messages.list(), list)
    assert {one.resource for one in new.resource_filters.list()} >= {"volume", "snapshot", "pool"}
    assert not hasattr(old.services.list()[0], "backend_state")
    assert {one.backend_state for one in new.services.list() if one.binary == "cinder-volume"} == {"up"}


def test_types_and_quotas(cloud: Cloud) -> None:
    client = cloud.cinderclient(71)
    made = client.volume_types.create(f"cc-{cloud.project}", is_public=False)
    try:
        made.set_keys({"x:k": "v"})
        assert client.volume_types.get(made.id).get_keys() == {"x:k": "v"}
        made.unset_keys(["x:k"])
        client.volume_type_access.add_project_access(made, cloud.project_id)
        assert [one.project_id for one in client.volume_type_access.list(made)] == [cloud.project_id]
        client.default_types.create(made.id, cloud.project_id)
        assert client.volume_types.default().id == made.id
        volume = client.volumes.create(1)
        assert _settled(client.volumes, volume.id).volume_type == made.name
        client.volumes.delete(volume)
        _gone(client.volumes, volume.id)
        client.default_types.delete(cloud.project_id)
        assert client.volume_types.default().name == "__DEFAULT__"
    finally:
        client.volume_types.delete(made)
    client.quotas.update(cloud.project_id, volumes=3)
    assert client.quotas.get(cloud.project_id, usage=True).volumes == {"limit": 3, "in_use": 0, "reserved": 0}
    client.quotas.delete(cloud.project_id)
    assert client.quotas.get(cloud.project_id).volumes == client.quotas.defaults(cloud.project_id).volumes == 10
    limits = {one.name: one.value for one in client.limits.get().absolute}
    assert limits["maxTotalVolumes"] == 10


@pytest.mark.parametrize("version", ["3.0", "3.71"])
def test_the_command(cloud: Cloud, version: str) -> None:
    name = f"cmd-{version}"
    shown = cloud.cinder("create", "1", "--name", name, "--metadata", "k=v", version=version)
    assert name in shown
    (volume,) = cloud.call("GET", f"/volumes?name={name}").json()["volumes"]
    cloud.settled("volumes", volume["id"])
    assert "available" in cloud.cinder("list", version=version)
    cloud.cinder("extend", name, "2", version=version)
    assert cloud.settled("volumes", volume["id"])["size"] == 2
    cloud.cinder("snapshot-create", name, "--name", f"{name}-s", version=version)
    (snapshot,) = cloud.call("GET", "/snapshots").json()["snapshots"]
    cloud.settled("snapshots", snapshot["id"])
    assert f"{name}-s" in cloud.cinder("snapshot-list", version=version)
    cloud.cinder("rename", name, f"{name}-2", version=version)
    cloud.cinder("metadata", f"{name}-2", "set", "a=b", version=version)
    shown = cloud.cinder("show", f"{name}-2", version=version)
    assert "a : b" in shown
    cloud.cinder("snapshot-delete", f"{name}-s", version=version)
    cloud.gone("snapshots", snapshot["id"])
    cloud.cinder("delete", f"{name}-2", version=version)
    cloud.gone("volumes", volume["id"])


def test_the_commands_views(cloud: Cloud) -> None:
    assert "__DEFAULT__" in cloud.cinder("type-list")
    assert "cinder-volume" in cloud.cinder("service-list")
    assert "reflink#reflink" in cloud.cinder("get-pools", "--detail")
    assert "nova" in cloud.cinder("availability-zone-list")
    assert "maxTotalVolumes" in cloud.cinder("absolute-limits")
    assert "gigabytes" in cloud.cinder("quota-show", cloud.project_id)
    assert "total_count" in cloud.cinder("summary").lower()
    assert "3.71" in cloud.cinder("version-list")
