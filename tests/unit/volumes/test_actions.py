"""The actions of a volume: extend, flags, the reset of states."""

from __future__ import annotations

from typing import Any

import pytest

from cluster.volumes.records import Volume, VolumeStatus
from tests.unit.volumes.bench import ABSENT, OTHER, Bench, message


async def _row(bench: Bench, volume: str) -> dict[str, Any]:
    row = await bench.row(Volume, volume)
    assert row is not None
    return row


@pytest.mark.parametrize("size", [5, "5"])
async def test_extend(bench: Bench, size: object) -> None:
    volume = await bench.volume(size_gib=2)
    answer = await bench.act(volume, "os-extend", {"new_size": size})
    assert (answer.status_code, answer.content) == (202, b"")
    row = await _row(bench, volume)
    assert (row["status"], row["previous_status"], row["target_size_gib"]) == ("extending", "available", 5)
    assert row["size_gib"] == 2
    assert await bench.operations(volume) == [("volume.extend", {"size_gib": 5, "from_gib": 2})]
    assert len(bench.rings) == 1


async def test_no_extension_waits_for_a_server(bench: Bench) -> None:
    volume = await bench.volume(status="in-use")
    for value in ({"error": True}, {"error": False}, {}):
        answer = await bench.act(volume, "os-extend_volume_completion", value, by="admin", at=71)
        assert answer.status_code == 400
        assert message(answer).startswith(f"Invalid volume: Volume {volume} (status in-use) does not wait")
    answer = await bench.act(ABSENT, "os-extend_volume_completion", {}, by="admin", at=71)
    assert answer.status_code == 404
    answer = await bench.act(volume, "os-extend_volume_completion", {"error": "what"}, by="admin", at=71)
    assert answer.status_code == 400
    assert (await bench.act(volume, "os-extend_volume_completion", {}, at=71)).status_code == 403
    answer = await bench.act(volume, "os-extend_volume_completion", {}, by="admin", at=70)
    assert (answer.status_code, message(answer)) == (404, "API version 3.70 is not supported on this method.")
    assert (await _row(bench, volume))["status"] == "in-use"


@pytest.mark.parametrize("size", [1, 2])
async def test_extend_only_grows(bench: Bench, size: int) -> None:
    volume = await bench.volume(size_gib=2)
    answer = await bench.act(volume, "os-extend", {"new_size": size})
    expected = (
        "Invalid input received: New size for extend must be greater than current size. "
        f"(current: 2, extended: {size})."
    )
    assert (answer.status_code, message(answer)) == (400, expected)
    for value in (0, "x", None, 2**31, True):
        assert (await bench.act(volume, "os-extend", {"new_size": value})).status_code == 400


@pytest.mark.parametrize("status", [status.value for status in VolumeStatus])
@pytest.mark.parametrize("at", [41, 42])
async def test_states_that_can_be_extended(bench: Bench, status: str, at: int) -> None:
    volume = await bench.volume(status=status)
    answer = await bench.act(volume, "os-extend", {"new_size": 2}, at=at)
    fine = status == "available" or (status == "in-use" and at >= 42)
    assert answer.status_code == (202 if fine else 400)
    assert (await _row(bench, volume))["status"] == ("extending" if fine else status)


async def test_extend_within_the_types_bounds(bench: Bench) -> None:
    bound = await bench.volume_type("bound", extra_specs={"provisioning:max_vol_size": "4"})
    volume = await bench.volume(volume_type_id=bound)
    assert "maximum allowable size of '4'" in message(await bench.act(volume, "os-extend", {"new_size": 5}))
    assert (await bench.act(volume, "os-extend", {"new_size": 4})).status_code == 202


async def test_flags(bench: Bench) -> None:
    volume = await bench.volume()
    answer = await bench.act(volume, "os-set_bootable", {"bootable": "True"})
    assert (answer.status_code, answer.content) == (200, b"")
    assert (await bench.act(volume, "os-update_readonly_flag", {"readonly": True})).status_code == 202
    shown = (await bench.get(f"/volumes/{volume}"))["volume"]
    assert (shown["bootable"], shown["metadata"]) == ("true", {"readonly": "True"})
    assert await bench.get(f"/volumes/{volume}/metadata") == {"metadata": {}}
    await bench.act(volume, "os-update_readonly_flag", {"readonly": "false"})
    assert (await bench.get(f"/volumes/{volume}"))["volume"]["metadata"] == {"readonly": "False"}
    for key, name in (("os-set_bootable", "bootable"), ("os-update_readonly_flag", "readonly")):
        for value in ({name: "maybe"}, {name: None}, {}, {name: True, "else": 1}):
            assert (await bench.act(volume, key, value)).status_code == 400
    await bench.set(Volume, volume, status="in-use")
    answer = await bench.act(volume, "os-update_readonly_flag", {"readonly": True})
    assert "status must be available to update readonly flag" in message(answer)
    assert (await bench.act(volume, "os-set_bootable", {"bootable": False})).status_code == 200


async def test_reset_status(bench: Bench) -> None:
    volume = await bench.volume(
        status="error_deleting", attach_status="attached", admin_metadata={"attached_mode": "rw"}
    )
    states = {"status": "Available", "attach_status": "detached", "migration_status": "error"}
    answer = await bench.act(volume, "os-reset_status", states, by="admin")
    assert (answer.status_code, answer.content) == (202, b"")
    row = await _row(bench, volume)
    assert (row["status"], row["attach_status"], row["migration_status"]) == ("available", "detached", "error")
    assert row["admin_metadata"] == {}
    await bench.act(volume, "os-reset_status", {"migration_status": "none"}, by="admin")
    assert (await _row(bench, volume))["migration_status"] is None


@pytest.mark.parametrize(
    "value",
    [
        {"status": "deleting"},
        {"status": "in-use"},
        {"status": "nonsense"},
        {"attach_status": "attaching"},
        {"migration_status": "target:x"},
        {},
        {"status": ""},
        {"status": None},
        {"status": "error", "else": 1},
        None,
    ],
)
async def test_what_reset_status_refuses(bench: Bench, value: object) -> None:
    volume = await bench.volume()
    assert (await bench.act(volume, "os-reset_status", value, by="admin")).status_code == 400
    assert (await _row(bench, volume))["status"] == "available"


async def test_reset_to_in_use_needs_an_attachment(bench: Bench) -> None:
    volume = await bench.volume(attach_status="attached", status="error")
    assert (await bench.act(volume, "os-reset_status", {"status": "in-use"}, by="admin")).status_code == 202


async def test_reset_leaves_the_operation_alone(bench: Bench) -> None:
    volume = await bench.volume()
    await bench.act(volume, "os-extend", {"new_size": 2})
    await bench.act(volume, "os-reset_status", {"status": "error"}, by="admin")
    assert len(await bench.operations(volume)) == 1


async def test_who_may(bench: Bench) -> None:
    volume, theirs = await bench.volume(), await bench.volume(project_id=OTHER)
    assert (await bench.act(volume, "os-reset_status", {"status": "error"})).status_code == 403
    assert (await bench.act(volume, "os-extend", {"new_size": 2}, by="reader")).status_code == 403
    for absent in (theirs, ABSENT):
        for key, value in (
            ("os-extend", {"new_size": 2}),
            ("os-set_bootable", {"bootable": True}),
            ("os-update_readonly_flag", {"readonly": True}),
            ("os-set_image_metadata", {"metadata": {}}),
            ("os-unset_image_metadata", {"key": "a"}),
            ("os-show_image_metadata", None),
        ):
            assert (await bench.act(absent, key, value)).status_code == 404
