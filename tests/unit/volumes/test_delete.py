"""Deleting volumes: every guard, cascade, force."""

from __future__ import annotations

from typing import Any

import pytest

from cluster.snapshots.records import Snapshot
from cluster.volumes.records import Volume, VolumeStatus
from tests.unit.volumes.bench import ABSENT, OTHER, Bench, message

DELETABLE = {"available", "error", "error_restoring", "error_extending", "error_managing"}


async def _status(bench: Bench, volume: str) -> str | None:
    row = await bench.row(Volume, volume)
    return row["status"] if row else None


@pytest.mark.parametrize("status", [status.value for status in VolumeStatus])
async def test_each_status(bench: Bench, status: str) -> None:
    volume = await bench.volume(status=status)
    answer = await bench.call("DELETE", f"/volumes/{volume}")
    if status in DELETABLE:
        assert answer.status_code == 202
        assert answer.content == b""
        expected = "error_managing_deleting" if status == "error_managing" else "deleting"
        row = await bench.row(Volume, volume)
        assert row is not None
        assert (row["status"], row["previous_status"]) == (expected, status)
        assert await bench.operations(volume) == [("volume.delete", {"snapshots": []})]
        assert len(bench.rings) == 1
    else:
        assert answer.status_code == 400
        assert message(answer).startswith("Invalid volume: Volume status must be available or error or ")
        assert await _status(bench, volume) == status
        assert not await bench.operations(volume)
        assert (await bench.act(volume, "os-force_delete", None, by="admin")).status_code == 202


@pytest.mark.parametrize(
    "values", [{"attach_status": "attached"}, {"migration_status": "migrating"}, {"group_id": ABSENT}]
)
async def test_what_force_does_not_override(bench: Bench, values: dict[str, Any]) -> None:
    volume = await bench.volume(**values)
    assert (await bench.call("DELETE", f"/volumes/{volume}")).status_code == 400
    assert (await bench.call("DELETE", f"/volumes/{volume}?force=true", at=23, by="admin")).status_code == 400
    assert await _status(bench, volume) == "available"


async def test_force_is_the_administrators_and_since_3_23(bench: Bench) -> None:
    volume = await bench.volume(status="maintenance")
    assert (await bench.call("DELETE", f"/volumes/{volume}?force=true", at=23)).status_code == 403
    assert (await bench.call("DELETE", f"/volumes/{ABSENT}?force=true", at=23)).status_code == 404
    assert (await bench.call("DELETE", f"/volumes/{volume}?force=true", at=22, by="admin")).status_code == 400
    assert (await bench.call("DELETE", f"/volumes/{volume}?force=maybe", at=23, by="admin")).status_code == 400
    assert (await bench.act(volume, "os-force_delete", {})).status_code == 403
    assert (await bench.call("DELETE", f"/volumes/{volume}?force=true", at=23, by="admin")).status_code == 202


async def test_snapshots_stand_in_the_way_until_cascade(bench: Bench) -> None:
    volume = await bench.volume()
    snapshots = sorted([await bench.snapshot(volume), await bench.snapshot(volume, status="error")])
    assert (await bench.call("DELETE", f"/volumes/{volume}")).status_code == 400
    assert (await bench.call("DELETE", f"/volumes/{volume}?cascade=true")).status_code == 202
    assert await bench.operations(volume) == [("volume.delete", {"snapshots": snapshots})]
    for snapshot in snapshots:
        row = await bench.row(Snapshot, snapshot)
        assert row is not None
        assert row["status"] == "deleting"
        assert not await bench.operations(snapshot)


@pytest.mark.parametrize(
    ("values", "with_force"),
    [({"status": "creating"}, 202), ({"group_snapshot_id": ABSENT}, 400), ({"project_id": OTHER}, 202)],
)
async def test_cascade_is_all_or_nothing(bench: Bench, values: dict[str, Any], with_force: int) -> None:
    volume = await bench.volume()
    fine, other = await bench.snapshot(volume), await bench.snapshot(volume, **values)
    assert (await bench.call("DELETE", f"/volumes/{volume}?cascade=true")).status_code == 400
    for snapshot in (fine, other):
        row = await bench.row(Snapshot, snapshot)
        assert row is not None
        assert row["status"] != "deleting"
    assert await _status(bench, volume) == "available"
    path = f"/volumes/{volume}?cascade=true&force=true"
    assert (await bench.call("DELETE", path, at=23, by="admin")).status_code == with_force


async def test_cascade_waits_for_snapshots_that_are_worked_on(bench: Bench) -> None:
    volume = await bench.volume()
    made = await bench.call("POST", "/snapshots", {"snapshot": {"volume_id": volume}})
    snapshot = made.json()["snapshot"]["id"]
    path = f"/volumes/{volume}?cascade=true&force=true"
    answer = await bench.call("DELETE", path, at=23, by="admin")
    assert answer.status_code == 400
    assert "still being worked on" in message(answer)
    await bench.settle(Snapshot, snapshot, status="available")
    assert (await bench.call("DELETE", path, at=23, by="admin")).status_code == 202


async def test_a_source_stays_while_it_is_copied(bench: Bench) -> None:
    volume = await bench.volume()
    snapshot = await bench.snapshot(volume)
    copy = (await bench.call("POST", "/volumes", {"volume": {"snapshot_id": snapshot}})).json()["volume"]["id"]
    answer = await bench.call("DELETE", f"/volumes/{volume}?cascade=true")
    assert answer.status_code == 400
    assert copy in message(answer)
    answer = await bench.call("DELETE", f"/snapshots/{snapshot}")
    assert answer.status_code == 400
    assert copy in message(answer)
    await bench.settle(Volume, copy, status="available", host="h1@reflink#p1")
    assert (await bench.call("DELETE", f"/snapshots/{snapshot}")).status_code == 202
    await bench.settle(Snapshot, snapshot, status="error")
    clone = (await bench.call("POST", "/volumes", {"volume": {"source_volid": copy}})).json()["volume"]["id"]
    assert clone in message(await bench.call("DELETE", f"/volumes/{copy}"))
    await bench.settle(Volume, clone, status="error")
    assert (await bench.call("DELETE", f"/volumes/{copy}")).status_code == 202


async def test_a_volume_that_was_never_placed_goes_at_once(bench: Bench) -> None:
    volume = await bench.volume(host=None, status="error")
    assert (await bench.call("DELETE", f"/volumes/{volume}")).status_code == 202
    assert await _status(bench, volume) is None
    assert not bench.rings


async def test_a_volume_that_is_being_created_does_not(bench: Bench) -> None:
    volume = (await bench.call("POST", "/volumes", {"volume": {"size": 1}})).json()["volume"]["id"]
    assert (await bench.call("DELETE", f"/volumes/{volume}")).status_code == 400
    answer = await bench.act(volume, "os-force_delete", None, by="admin")
    assert answer.status_code == 400
    assert "still being worked on" in message(answer)
    assert await _status(bench, volume) == "creating"


async def test_another_projects_volume_is_not_there(bench: Bench) -> None:
    volume = await bench.volume(project_id=OTHER)
    assert (await bench.call("DELETE", f"/volumes/{volume}")).status_code == 404
    assert (await bench.call("DELETE", f"/volumes/{volume}", by="admin")).status_code == 202
