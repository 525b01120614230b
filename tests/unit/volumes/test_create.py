"""Creating volumes: what is taken from where, and each refusal."""

from __future__ import annotations

from typing import Any

import pytest

from cluster.snapshots.records import Snapshot
from cluster.volumes.records import Volume
from tests.unit.volumes.bench import ABSENT, DEFAULT_TYPE, OTHER, PROJECT, Bench, message


async def _created(bench: Bench, at: int = 0, by: str = "member", **volume: Any) -> dict[str, Any]:
    answer = await bench.call("POST", "/volumes", {"volume": volume}, at=at, by=by)
    assert answer.status_code == 202, answer.text
    found: dict[str, Any] = answer.json()["volume"]
    return found


async def _refused(bench: Bench, at: int = 0, by: str = "member", **volume: Any) -> tuple[int, str]:
    answer = await bench.call("POST", "/volumes", {"volume": volume}, at=at, by=by)
    assert not bench.rings
    return answer.status_code, message(answer)


async def test_the_reply_the_row_and_the_operation(bench: Bench) -> None:
    volume = await _created(bench, at=71, size="2", name=" v ", display_name="x", metadata={"a": "b"})
    assert (volume["status"], volume["size"], volume["name"], volume["metadata"]) == ("creating", 2, "v", {"a": "b"})
    assert (volume["volume_type"], volume["volume_type_id"]) == ("__DEFAULT__", DEFAULT_TYPE)
    assert (volume["bootable"], volume["availability_zone"], volume["consumes_quota"]) == ("false", "nova", True)
    assert await bench.operations(volume["id"]) == [("volume.create", {"source": None, "hints": {}})]
    assert len(bench.rings) == 1
    shown = (await bench.get(f"/volumes/{volume['id']}", at=71))["volume"]
    assert shown == volume | {"os-vol-tenant-attr:tenant_id": PROJECT}


@pytest.mark.parametrize("limit", ["²", "१", "-1", "x", ""])
async def test_a_size_limit_of_a_type_that_is_no_number_does_not_count(bench: Bench, limit: str) -> None:
    await bench.volume_type("odd", extra_specs={"provisioning:min_vol_size": limit, "provisioning:max_vol_size": limit})
    assert (await _created(bench, size=1, volume_type="odd"))["volume_type"] == "odd"


async def test_a_snapshot_gives_size_type_zone_and_bootability(bench: Bench) -> None:
    gold = await bench.volume_type("gold")
    await bench.service("east", "h2@reflink")
    origin = await bench.volume(volume_type_id=gold, bootable=True, availability_zone="east", size_gib=3)
    snapshot = await bench.snapshot(origin, volume_type_id=gold, size_gib=2)
    volume = await _created(bench, snapshot_id=snapshot)
    assert (volume["size"], volume["volume_type"], volume["availability_zone"]) == (2, "gold", "east")
    assert (volume["bootable"], volume["snapshot_id"], volume["source_volid"]) == ("true", snapshot, None)
    source = {"snapshot_id": snapshot, "volume_id": origin}
    assert await bench.operations(volume["id"]) == [("volume.create", {"source": source, "hints": {}})]


@pytest.mark.parametrize("status", ["available", "in-use"])
async def test_a_volume_is_copied(bench: Bench, status: str) -> None:
    origin = await bench.volume(size_gib=3, status=status, image_metadata={"os": "linux"})
    volume = await _created(bench, source_volid=origin, size=4)
    assert (volume["size"], volume["source_volid"]) == (4, origin)
    assert await bench.operations(volume["id"]) == [("volume.create", {"source": {"volume_id": origin}, "hints": {}})]
    shown = (await bench.get(f"/volumes/{volume['id']}"))["volume"]
    assert shown["volume_image_metadata"] == {"os": "linux"}


async def test_sources_in_the_wrong_state_or_too_large(bench: Bench) -> None:
    origin = await bench.volume(size_gib=3, status="error")
    snapshot = await bench.snapshot(origin, size_gib=3, status="creating")
    status, text = await _refused(bench, source_volid=origin)
    assert (status, text) == (
        400,
        "Invalid volume: Originating source volume status must be one of 'available, in-use' values",
    )
    status, text = await _refused(bench, snapshot_id=snapshot)
    assert (status, text) == (400, "Invalid snapshot: Originating snapshot status must be one of 'available' values")
    await bench.set(Volume, origin, status="available")
    await bench.set(Snapshot, snapshot, status="available")
    for source in ({"source_volid": origin}, {"snapshot_id": snapshot}):
        status, text = await _refused(bench, size=2, **source)
        assert status == 400
        assert "cannot be smaller than" in text
    status, text = await _refused(bench, source_volid=origin, snapshot_id=snapshot)
    assert status == 400
    assert "only one of" in text


async def test_sources_of_another_project_are_not_there(bench: Bench) -> None:
    origin = await bench.volume(project_id=OTHER)
    snapshot = await bench.snapshot(origin, project_id=OTHER)
    assert await _refused(bench, source_volid=origin) == (404, f"Volume {origin} could not be found.")
    assert await _refused(bench, snapshot_id=snapshot) == (404, f"Snapshot {snapshot} could not be found.")


async def test_the_type_asked_for_the_projects_default_the_configured_default(bench: Bench) -> None:
    gold = await bench.volume_type("gold")
    assert (await _created(bench, size=1, volume_type="gold"))["volume_type"] == "gold"
    assert (await _created(bench, size=1, volume_type=gold))["volume_type"] == "gold"
    await bench.default_type(gold)
    assert (await _created(bench, size=1))["volume_type"] == "gold"
    assert (await _created(bench, size=1, by="other"))["volume_type"] == "__DEFAULT__"


async def test_a_private_type_needs_access(bench: Bench) -> None:
    secret = await bench.volume_type("secret", is_public=False)
    assert (await _refused(bench, size=1, volume_type="secret"))[0] == 404
    assert (await _refused(bench, size=1, volume_type=secret))[0] == 404
    await bench.grant(secret, PROJECT)
    assert (await _created(bench, size=1, volume_type="secret"))["volume_type"] == "secret"


async def test_a_missing_default_type_is_the_installations_fault(bench: Bench) -> None:
    await bench.set_type(DEFAULT_TYPE, name="renamed")
    status, text = await _refused(bench, size=1)
    assert status == 500
    assert "default volume type __DEFAULT__ cannot be found" in text


async def test_the_type_bounds_the_size_and_the_zones(bench: Bench) -> None:
    specs = {"provisioning:min_vol_size": "2", "provisioning:max_vol_size": "4", "RESKEY:availability_zones": "east"}
    await bench.volume_type("bound", extra_specs=specs)
    await bench.service("east", "h2@reflink")
    assert (await _refused(bench, size=1, volume_type="bound"))[0] == 400
    assert (await _refused(bench, size=5, volume_type="bound"))[0] == 400
    status, text = await _refused(bench, size=2, volume_type="bound", availability_zone="nova")
    assert (status, text) == (400, "Availability zone 'nova' is invalid.")
    assert (await _created(bench, size=2, volume_type="bound"))["availability_zone"] == "east"


async def test_zones(bench: Bench) -> None:
    status, text = await _refused(bench, size=1, availability_zone="mars")
    assert (status, text) == (400, "Availability zone 'mars' is invalid.")
    await bench.service("mars", "h3@reflink")
    origin = await bench.volume(availability_zone="mars")
    status, text = await _refused(bench, source_volid=origin, availability_zone="nova")
    assert status == 400
    assert "must be in the same availability zone as the source volume" in text
    assert (await _created(bench, size=1, availability_zone="mars"))["availability_zone"] == "mars"


async def test_copies_stay_on_their_backend(bench: Bench) -> None:
    fast = await bench.volume_type("fast", extra_specs={"volume_backend_name": "ssd"})
    await bench.volume_type("slow", extra_specs={"volume_backend_name": "disk"})
    origin = await bench.volume(volume_type_id=fast)
    status, text = await _refused(bench, source_volid=origin, volume_type="slow")
    assert status == 400
    assert "not compatible" in text


async def test_multiattach_comes_from_the_type(bench: Bench) -> None:
    await bench.volume_type("shared", extra_specs={"multiattach": "<is> True"})
    status, text = await _refused(bench, size=1, multiattach=True)
    assert status == 400
    assert text.startswith("multiattach parameter has been removed.")
    assert (await _created(bench, size=1, multiattach=False, volume_type="shared"))["multiattach"] is True


@pytest.mark.parametrize(
    ("at", "key", "value", "status"),
    [
        (0, "imageRef", ABSENT, 400),
        (0, "image_id", "cirros", 400),
        (47, "backup_id", ABSENT, 404),
        (13, "group_id", ABSENT, 404),
        (0, "consistencygroup_id", ABSENT, 404),
        (0, "snapshot_id", ABSENT, 404),
        (0, "source_volid", ABSENT, 404),
        (0, "volume_type", "none such", 404),
        (0, "size", 0, 400),
        (0, "size", "1.5", 400),
        (0, "size", True, 400),
        (0, "size", 2**31, 400),
        (0, "metadata", {"k": 1}, 400),
        (0, "metadata", {"k" * 256: "v"}, 400),
        (0, "snapshot_id", "no uuid", 400),
        (0, "name", "n" * 256, 400),
        (53, "surprise", 1, 400),
        (53, "backup_id", ABSENT, 404),
    ],
)
async def test_what_is_refused(bench: Bench, at: int, key: str, value: Any, status: int) -> None:
    assert (await _refused(bench, at=at, **({"size": 1} | {key: value})))[0] == status


@pytest.mark.parametrize(("at", "key"), [(52, "surprise"), (12, "group_id"), (46, "backup_id")])
async def test_what_older_versions_do_not_know_they_ignore(bench: Bench, at: int, key: str) -> None:
    assert (await _created(bench, at=at, size=1, **{key: ABSENT}))["status"] == "creating"


async def test_no_size_is_refused(bench: Bench) -> None:
    status, text = await _refused(bench, name="v")
    assert (status, text) == (
        400,
        "Invalid input received: Volume size 'None' must be an integer and greater than 0",
    )


async def test_hints_go_into_the_operation(bench: Bench) -> None:
    hints = {"same_host": ABSENT, "query": '["=", "$free_capacity_gb", 1]', "other": {"a": 1}}
    body = {"volume": {"size": 1}, "OS-SCH-HNT:scheduler_hints": hints}
    answer = await bench.call("POST", "/volumes", body)
    assert answer.status_code == 202, answer.text
    ((_, args),) = await bench.operations(answer.json()["volume"]["id"])
    assert args["hints"] == hints | {"same_host": [ABSENT]}
    body["OS-SCH-HNT:scheduler_hints"] = {"different_host": ["x"]}
    assert (await bench.call("POST", "/volumes", body)).status_code == 400
    assert (await bench.call("POST", "/volumes", {"volume": {"size": 1}, "else": 1})).status_code == 400


async def test_a_reader_creates_nothing(bench: Bench) -> None:
    assert (await _refused(bench, by="reader", size=1))[0] == 403


async def test_update_changes_names_and_metadata(bench: Bench) -> None:
    volume = await bench.volume(admin_metadata={"readonly": "True", "inner": "x"}, user_metadata={"old": "1"})
    changes = {"name": "n", "display_name": "d", "description": None, "metadata": {"new": "2"}}
    answer = await bench.call("PUT", f"/volumes/{volume}", {"volume": changes}, by="admin")
    shown = answer.json()["volume"]
    assert (shown["name"], shown["description"]) == ("n", None)
    assert shown["metadata"] == {"new": "2", "readonly": "True"}
    assert shown["updated_at"] is not None
    assert "os-vol-host-attr:host" not in shown
    assert (await bench.call("PUT", f"/volumes/{volume}", {"volume": {}}, at=52)).status_code == 200
    assert (await bench.call("PUT", f"/volumes/{volume}", {"volume": {}}, at=53)).status_code == 400
    assert (await bench.call("PUT", f"/volumes/{volume}", {"volume": {"size": 2}})).status_code == 400
    await bench.set(Volume, volume, status="maintenance")
    answer = await bench.call("PUT", f"/volumes/{volume}", {"volume": {"name": "x"}})
    assert message(answer) == "Invalid volume: The volume cannot be updated during maintenance."
