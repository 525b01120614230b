"""openstacksdk as a library: its cloud layer (which waits by itself) and its block storage proxy."""

from __future__ import annotations

from collections.abc import Iterator

import openstack.exceptions
import pytest
from openstack.connection import Connection

from tests.integration.clients import Cloud, eventually, project_of
from tests.integration.conftest import Service

# openstacksdk warns of its own future at every turn.
pytestmark = pytest.mark.filterwarnings("ignore::Warning:openstack")


@pytest.fixture(scope="module")
def cloud(service: Service) -> Iterator[Cloud]:
    """A project for this module."""
    with project_of(service, "sdk") as one:
        yield one


@pytest.fixture(autouse=True)
def nothing_is_left(cloud: Cloud) -> Iterator[None]:
    """One test's volumes are not in the next one's lists."""
    yield
    cloud.purge()


@pytest.fixture(scope="module")
def sdk(cloud: Cloud) -> Iterator[Connection]:
    """A connection in it."""
    with cloud.sdk() as connection:
        yield connection


def test_discovery_finds_the_microversions(sdk: Connection) -> None:
    data = sdk.block_storage.get_endpoint_data()
    assert data.api_version[0] == 3
    assert (data.min_microversion, data.max_microversion) == ((3, 0), (3, 71))


def test_the_cloud_layer_waits(sdk: Connection) -> None:
    volume = sdk.create_volume(1, name="sdk-cloud", description="d", metadata={"k": "v"}, wait=True, timeout=60)
    assert (volume.status, volume.size, volume.metadata) == ("available", 1, {"k": "v"})
    snapshot = sdk.create_volume_snapshot(volume.id, name="sdk-point", wait=True, timeout=60)
    assert snapshot.status == "available"
    assert [one.id for one in sdk.list_volumes()] == [volume.id]
    assert sdk.get_volume("sdk-cloud").id == volume.id
    assert [one.id for one in sdk.list_volume_snapshots()] == [snapshot.id]
    assert sdk.delete_volume_snapshot(snapshot.id, wait=True, timeout=60)
    assert sdk.delete_volume(volume.id, wait=True, timeout=60)
    assert sdk.get_volume(volume.id) is None


def test_the_proxy(sdk: Connection) -> None:
    storage = sdk.block_storage
    volume = storage.create_volume(size=1, name="sdk-proxy", metadata={"a": "1"})
    storage.wait_for_status(volume, "available", interval=1, wait=60)
    storage.extend_volume(volume, 2)
    eventually(lambda: storage.get_volume(volume).size == 2, "the volume has grown")
    storage.update_volume(volume, name="sdk-renamed", description="d")
    storage.set_volume_metadata(volume, b="2")
    storage.delete_volume_metadata(storage.get_volume(volume.id), keys=["a"])
    storage.set_volume_bootable_status(volume, True)
    storage.set_volume_readonly(volume, True)
    found = storage.find_volume("sdk-renamed", ignore_missing=False)
    assert (found.id, found.description, found.is_bootable) == (volume.id, "d", True)
    assert found.metadata == {"b": "2", "readonly": "True"}

    snapshot = storage.create_snapshot(volume_id=volume.id, name="sdk-s", metadata={"x": "y"})
    storage.wait_for_status(snapshot, "available", interval=1, wait=60)
    storage.update_snapshot(snapshot, description="s")
    assert storage.get_snapshot(snapshot.id).description == "s"
    copies = [
        storage.create_volume(size=2, snapshot_id=snapshot.id, name="sdk-copy"),
        storage.create_volume(size=3, source_volume_id=volume.id, name="sdk-twin"),
    ]
    for copy in copies:
        storage.wait_for_status(copy, "available", interval=1, wait=60)
    listed = {one.name: one.size for one in storage.volumes()}
    assert listed == {"sdk-renamed": 2, "sdk-copy": 2, "sdk-twin": 3}

    storage.delete_snapshot(snapshot, ignore_missing=False)
    storage.wait_for_delete(snapshot, interval=1, wait=60)
    storage.reset_volume_status(copies[0], "error", None, None)
    for one in (volume, *copies):
        storage.delete_volume(one, ignore_missing=False)
    for one in (volume, *copies):
        storage.wait_for_delete(one, interval=1, wait=60)
    with pytest.raises(openstack.exceptions.NotFoundException):
        storage.get_volume(volume.id)


def test_pages_are_followed(sdk: Connection, cloud: Cloud) -> None:
    ids = {cloud.create(1, name=f"page-{number}")["id"] for number in range(5)}
    assert {one.id for one in sdk.block_storage.volumes(limit=2)} == ids
    assert [one.name for one in sdk.block_storage.volumes(limit=2)] == [f"page-{n}" for n in reversed(range(5))]


def test_types(sdk: Connection, cloud: Cloud) -> None:
    storage = sdk.block_storage
    made = storage.create_type(name=f"sdk-{cloud.project}", description="d", is_public=False)
    try:
        storage.update_type_extra_specs(made, **{"x:k": "v"})
        assert storage.get_type(made.id).extra_specs == {"x:k": "v"}
        storage.delete_type_extra_specs(made, keys=["x:k"])
        assert storage.get_type(made.id).extra_specs == {}
        storage.add_type_access(made, cloud.project_id)
        assert [one["project_id"] for one in storage.get_type_access(made)] == [cloud.project_id]
        storage.remove_type_access(made, cloud.project_id)
        assert storage.update_type(made, description="e").description == "e"
    finally:
        storage.delete_type(made)
    assert storage.find_type(f"sdk-{cloud.project}") is None


def test_quotas_limits_services_pools(sdk: Connection, cloud: Cloud) -> None:
    storage = sdk.block_storage
    storage.update_quota_set(cloud.project_id, volumes=4)
    assert storage.get_quota_set(cloud.project_id).volumes == 4
    assert storage.get_limits().absolute.max_total_volumes == 4
    storage.revert_quota_set(cloud.project_id)
    assert storage.get_quota_set(cloud.project_id).volumes == 10
    assert {one.binary for one in storage.services()} >= {"cinder-volume", "cinder-scheduler"}
    assert [one.name.partition("@")[2] for one in storage.backend_pools()] == ["reflink#reflink"]
    assert [one.name for one in storage.availability_zones()] == ["nova"]
    assert storage.summary(all_projects=False).total_count == 0
    assert len(list(storage.extensions())) > 5


def test_refusals_arrive_as_exceptions(sdk: Connection) -> None:
    storage = sdk.block_storage
    with pytest.raises(openstack.exceptions.BadRequestException):
        storage.create_volume(size=0)
    with pytest.raises(openstack.exceptions.NotFoundException):
        storage.create_volume(size=1, volume_type="nothing")
    with pytest.raises(openstack.exceptions.NotFoundException):
        storage.delete_volume("00000000-0000-4000-8000-000000000000", ignore_missing=False)
