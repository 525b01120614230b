"""The keys of a volume by microversion and caller."""

from __future__ import annotations

import pytest

from cluster.volumes.queries import VolumeRow
from cluster.volumes.records import Volume
from tests.unit.volumes.bench import ABSENT, OTHER, POOL, PROJECT, Bench

BASE = {
    *("id", "status", "size", "availability_zone", "created_at", "updated_at", "name", "description", "volume_type"),
    *("snapshot_id", "source_volid", "metadata", "links", "user_id", "bootable", "encrypted", "replication_status"),
    *("consistencygroup_id", "multiattach", "attachments"),
}
TENANT = {"os-vol-tenant-attr:tenant_id"}
ADMIN = TENANT | {
    *("migration_status", "os-vol-host-attr:host", "os-vol-mig-status-attr:migstat", "os-vol-mig-status-attr:name_id"),
}
SINCE = {
    13: {"group_id"},
    48: {"shared_targets", "service_uuid"},
    63: {"volume_type_id"},
    65: {"consumes_quota"},
}
ADMIN_SINCE = {21: {"provider_id"}, 61: {"cluster_name"}}


def test_a_row_has_the_columns_of_the_table() -> None:
    assert set(VolumeRow.__annotations__) == {*Volume.metadata.tables["volume"].c.keys(), "volume_type_name"}


@pytest.mark.parametrize("minor", range(72))
async def test_keys_by_microversion(bench: Bench, minor: int) -> None:
    volume = await bench.volume()
    member = BASE | TENANT | {key for since, keys in SINCE.items() if minor >= since for key in keys}
    admin = member | ADMIN | {key for since, keys in ADMIN_SINCE.items() if minor >= since for key in keys}
    for by, expected in (("member", member), ("admin", admin)):
        shown = (await bench.get(f"/volumes/{volume}", at=minor, by=by))["volume"]
        assert set(shown) == expected
        (listed,) = (await bench.get("/volumes/detail", at=minor, by=by))["volumes"]
        assert listed == shown


@pytest.mark.parametrize(
    ("minor", "number"), [(0, 25), (12, 25), (13, 26), (21, 27), (48, 29), (61, 30), (63, 31), (65, 32), (71, 32)]
)
async def test_numbers_of_keys_measured_on_cinder(bench: Bench, minor: int, number: int) -> None:
    volume = await bench.volume()
    assert len((await bench.get(f"/volumes/{volume}", at=minor, by="admin"))["volume"]) == number


async def test_the_create_reply_has_no_extended_keys(bench: Bench) -> None:
    answer = await bench.call("POST", "/volumes", {"volume": {"size": 1}}, by="admin")
    assert set(answer.json()["volume"]) == BASE | {"migration_status"}


async def test_values(bench: Bench) -> None:
    volume = await bench.volume(
        bootable=True,
        user_metadata={"k": "v", "readonly": "mine"},
        admin_metadata={"readonly": "True", "attached_mode": "rw", "hidden": "x"},
        image_metadata={"os": "linux"},
        encryption_key_id=ABSENT,
        migration_status="success",
    )
    shown = (await bench.get(f"/volumes/{volume}", at=64, by="admin"))["volume"]
    assert shown["bootable"] == "true"
    assert shown["metadata"] == {"k": "v", "readonly": "True", "attached_mode": "rw"}
    assert shown["volume_image_metadata"] == {"os": "linux"}
    assert shown["encryption_key_id"] == ABSENT
    assert (shown["os-vol-host-attr:host"], shown["os-vol-tenant-attr:tenant_id"]) == (POOL, PROJECT)
    assert shown["migration_status"] == shown["os-vol-mig-status-attr:migstat"] == "success"
    base = "http://127.0.0.1:8776"
    assert shown["links"] == [
        {"rel": "self", "href": f"{base}/v3/{PROJECT}/volumes/{volume}"},
        {"rel": "bookmark", "href": f"{base}/{PROJECT}/volumes/{volume}"},
    ]
    await bench.set(Volume, volume, encryption_key_id="00000000-0000-0000-0000-000000000000")
    assert "encryption_key_id" not in (await bench.get(f"/volumes/{volume}", at=64))["volume"]


@pytest.mark.parametrize(("value", "at", "shown"), [(None, 48, True), (None, 69, None), (False, 48, False)])
async def test_shared_targets(bench: Bench, value: bool | None, at: int, shown: bool | None) -> None:
    volume = await bench.volume(shared_targets=value)
    assert (await bench.get(f"/volumes/{volume}", at=at))["volume"]["shared_targets"] is shown


@pytest.mark.parametrize(
    ("status", "shown"),
    [
        ("managing", "creating"),
        ("error_managing", "error"),
        ("error_managing_deleting", "deleting"),
        ("error", "error"),
    ],
)
async def test_inner_states_are_shown_as_outer(bench: Bench, status: str, shown: str) -> None:
    volume = await bench.volume(status=status)
    assert (await bench.get(f"/volumes/{volume}"))["volume"]["status"] == shown


async def test_who_sees_what(bench: Bench) -> None:
    mine, theirs = await bench.volume(), await bench.volume(project_id=OTHER)
    assert (await bench.call("GET", f"/volumes/{theirs}")).status_code == 404
    assert (await bench.call("GET", f"/volumes/{theirs}", by="admin")).status_code == 200
    assert (await bench.call("GET", f"/volumes/{mine}", by="reader")).status_code == 200
    for absent in (ABSENT, "no-uuid", "x" * 300):
        answer = await bench.call("GET", f"/volumes/{absent}")
        assert (answer.status_code, set(answer.json())) == (404, {"itemNotFound"})


async def test_encryption_of_a_volume_that_has_none(bench: Bench) -> None:
    volume = await bench.volume()
    assert await bench.get(f"/volumes/{volume}/encryption") == {"encryption_key_id": None}
    item = await bench.call("GET", f"/volumes/{volume}/encryption/encryption_key_id")
    assert (item.status_code, item.content) == (200, b"")
    assert (await bench.call("GET", f"/volumes/{volume}/encryption/cipher")).status_code == 404
    assert (await bench.call("GET", f"/volumes/{ABSENT}/encryption")).status_code == 404


async def test_summary(bench: Bench) -> None:
    for size, metadata in ((1, {"a": "1"}), (2, {"a": "2", "b": "1"}), (3, {"a": "1"})):
        await bench.volume(size_gib=size, user_metadata=metadata)
    await bench.volume(project_id=OTHER, size_gib=10)
    assert (await bench.call("GET", "/volumes/summary", at=11)).status_code == 404
    assert await bench.get("/volumes/summary", at=12) == {"volume-summary": {"total_count": 3, "total_size": 6}}
    totals = (await bench.get("/volumes/summary?all_tenants=1", at=36, by="admin"))["volume-summary"]
    assert (totals["total_count"], totals["total_size"]) == (4, 16)
    assert {key: sorted(values) for key, values in totals["metadata"].items()} == {"a": ["1", "2"], "b": ["1"]}
