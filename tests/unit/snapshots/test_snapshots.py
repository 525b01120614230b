"""Snapshots: keys, create, delete, update, lists, metadata, actions."""

from __future__ import annotations

import asyncio
from typing import Any
from urllib.parse import quote

import pytest

from cluster.snapshots.queries import SnapshotRow
from cluster.snapshots.records import Snapshot, SnapshotStatus
from cluster.volumes.records import VolumeStatus
from tests.unit.volumes.bench import ABSENT, OTHER, PROJECT, Bench, message

BASE = {"id", "created_at", "updated_at", "name", "description", "volume_id", "status", "size", "metadata"}
EXTENDED = {"os-extended-snapshot-attributes:project_id", "os-extended-snapshot-attributes:progress"}
SINCE = {14: "group_snapshot_id", 41: "user_id", 65: "consumes_quota"}


async def _create(bench: Bench, volume: str | None, at: int = 0, **wanted: Any) -> Any:
    return await bench.call("POST", "/snapshots", {"snapshot": {"volume_id": volume} | wanted}, at=at)


async def _act(bench: Bench, snapshot: str, key: str, value: Any, by: str = "admin") -> Any:
    return await bench.call("POST", f"/snapshots/{snapshot}/action", {key: value}, by=by)


def test_a_row_has_the_columns_of_the_table() -> None:
    assert set(SnapshotRow.__annotations__) == set(Snapshot.metadata.tables["snapshot"].c.keys())


@pytest.mark.parametrize("minor", [0, 13, 14, 40, 41, 64, 65, 71])
async def test_keys_by_microversion(bench: Bench, minor: int) -> None:
    volume = await bench.volume()
    snapshot = await bench.snapshot(volume)
    expected = BASE | {key for since, key in SINCE.items() if minor >= since}
    shown = (await bench.get(f"/snapshots/{snapshot}", at=minor))["snapshot"]
    assert set(shown) == expected | EXTENDED
    assert (await bench.get("/snapshots/detail", at=minor))["snapshots"] == [shown]
    assert set((await bench.get("/snapshots", at=minor))["snapshots"][0]) == BASE
    made = await _create(bench, volume, at=minor)
    assert set(made.json()["snapshot"]) == expected


async def test_create(bench: Bench) -> None:
    volume = await bench.volume(size_gib=3)
    answer = await _create(bench, volume, name=" s ", display_name="x", metadata={"a": "b"}, description="d")
    assert answer.status_code == 202
    made = answer.json()["snapshot"]
    assert (made["name"], made["size"], made["status"], made["metadata"]) == ("s", 3, "creating", {"a": "b"})
    assert await bench.operations(made["id"]) == [("snapshot.create", {})]
    assert len(bench.rings) == 1
    shown = (await bench.get(f"/snapshots/{made['id']}"))["snapshot"]
    extended = {"project_id": PROJECT, "progress": "0%"}
    assert shown == made | {f"os-extended-snapshot-attributes:{key}": value for key, value in extended.items()}


@pytest.mark.parametrize("status", [status.value for status in VolumeStatus])
async def test_states_of_the_volume(bench: Bench, status: str) -> None:
    volume = await bench.volume(status=status)
    for at, force, allowed in (
        (0, None, {"available"}),
        (0, True, {"available", "in-use"}),
        (65, False, {"available"}),
        (66, None, {"available", "in-use"}),
        (66, "yes", {"available", "in-use"}),
        (66, False, set()),
    ):
        wanted = {} if force is None else {"force": force}
        assert (await _create(bench, volume, at=at, **wanted)).status_code == (202 if status in allowed else 400)


async def test_what_create_refuses(bench: Bench) -> None:
    placed, unplaced = await bench.volume(migration_status="migrating"), await bench.volume(host=None)
    theirs = await bench.volume(project_id=OTHER)
    assert "while volume is migrating" in message(await _create(bench, placed))
    assert "has not been scheduled to any host" in message(await _create(bench, unplaced))
    assert message(await _create(bench, theirs)) == f"Volume {theirs} could not be found."
    assert (await _create(bench, None)).status_code == 404
    volume = await bench.volume()
    for wanted in ({"force": "maybe"}, {"surprise": 1}, {"name": "n" * 256}, {"metadata": {"a": 1}}):
        assert (await _create(bench, volume, **wanted)).status_code == 400
    assert (await bench.call("POST", "/snapshots", {"snapshot": {}})).status_code == 400
    assert message(await _create(bench, volume, at=66, force=False)).startswith("Since microversion 3.66 the 'force'")


@pytest.mark.parametrize("status", [status.value for status in SnapshotStatus])
async def test_delete_by_state(bench: Bench, status: str) -> None:
    snapshot = await bench.snapshot(await bench.volume(), status=status)
    answer = await bench.call("DELETE", f"/snapshots/{snapshot}")
    if status in ("available", "error"):
        assert (answer.status_code, answer.content) == (202, b"")
    else:
        expected = "Invalid snapshot: Snapshot status must be available or error and must not be part of a group."
        assert (answer.status_code, message(answer)) == (400, expected)
        assert not bench.rings
        assert (await _act(bench, snapshot, "os-force_delete", None, by="member")).status_code == 403
        assert (await _act(bench, snapshot, "os-force_delete", None)).status_code == 202
    assert await bench.operations(snapshot) == [("snapshot.delete", {})]
    row = await bench.row(Snapshot, snapshot)
    assert row is not None
    assert row["status"] == "deleting"


async def test_delete_of_what_is_worked_on_or_grouped_or_not_there(bench: Bench) -> None:
    volume = await bench.volume()
    made = (await _create(bench, volume)).json()["snapshot"]["id"]
    assert "still being worked on" in message(await _act(bench, made, "os-force_delete", None))
    row = await bench.row(Snapshot, made)
    assert row is not None
    assert row["status"] == "creating"
    grouped = await bench.snapshot(volume, group_snapshot_id=ABSENT)
    assert (await _act(bench, grouped, "os-force_delete", None)).status_code == 400
    theirs = await bench.snapshot(volume, project_id=OTHER)
    assert (await bench.call("DELETE", f"/snapshots/{theirs}")).status_code == 404
    assert (await bench.call("DELETE", f"/snapshots/{ABSENT}")).status_code == 404


async def test_a_snapshot_and_the_delete_of_its_volume_exclude_each_other(bench: Bench) -> None:
    for _ in range(4):
        volume = await bench.volume()
        made, gone = await asyncio.gather(_create(bench, volume), bench.call("DELETE", f"/volumes/{volume}"))
        assert {made.status_code, gone.status_code} == {202, 400}


async def test_update(bench: Bench) -> None:
    snapshot = await bench.snapshot(await bench.volume())
    changes = {"name": "n", "display_description": "d"}
    shown = (await bench.call("PUT", f"/snapshots/{snapshot}", {"snapshot": changes})).json()["snapshot"]
    assert (shown["name"], shown["description"]) == ("n", "d")
    assert shown["updated_at"] is not None
    for body in ({}, {"volume_id": ABSENT}, {"metadata": {}}):
        assert (await bench.call("PUT", f"/snapshots/{snapshot}", {"snapshot": body})).status_code == 400
    assert (await bench.call("PUT", f"/snapshots/{ABSENT}", {"snapshot": {"name": "n"}})).status_code == 404


async def test_pages_and_counts(bench: Bench) -> None:
    volume = await bench.volume()
    for number in range(7):
        await bench.snapshot(volume, created_at="2026-01-01T00:00:00.000000", name=f"n{number % 2}")
    whole = [found["id"] for found in (await bench.get("/snapshots"))["snapshots"]]
    assert len(whole) == 7
    first = await bench.get("/snapshots/detail?limit=3&with_count=1", at=45)
    assert first["count"] == 7
    assert "/snapshots/detail?" in first["snapshots_links"][0]["href"]
    seen = [found["id"] for found in first["snapshots"]]
    while len(page := (await bench.get(f"/snapshots?limit=3&marker={seen[-1]}"))["snapshots"]) > 0:
        seen += [found["id"] for found in page]
    assert seen == whole
    assert (await bench.call("GET", "/snapshots?sort=name", at=29)).status_code == 400
    names = [found["name"] for found in (await bench.get("/snapshots?sort=name:asc", at=30))["snapshots"]]
    assert names == sorted(names)
    assert (await bench.call("GET", f"/snapshots?marker={ABSENT}")).status_code == 404


async def test_filters(bench: Bench) -> None:
    one, two = await bench.volume(availability_zone="east"), await bench.volume(host="h2@other#q")
    await bench.snapshot(one, name="a", status="error", user_metadata={"k": "v"})
    await bench.snapshot(two, name="b", consumes_quota=False)
    await bench.snapshot(two, name="c", project_id=OTHER)
    for expected, at, by, filters in (
        ({"a"}, 0, "member", {"status": "error"}),
        ({"b"}, 0, "member", {"volume_id": two}),
        ({"b", "c"}, 0, "admin", {"volume_id": two, "all_tenants": "1"}),
        ({"a"}, 0, "member", {"name": "a"}),
        ({"a"}, 31, "member", {"availability_zone": "east"}),
        ({"b"}, 31, "admin", {"host": "h2@other"}),
        ({"a"}, 22, "member", {"metadata": "{'k': 'v'}"}),
        ({"a", "b"}, 21, "member", {"metadata": "{'k': 'v'}"}),
        ({"a"}, 65, "member", {"consumes_quota": "true"}),
        ({"a"}, 34, "admin", {"name~": "A"}),
        (set(), 31, "admin", {"nothing": "x"}),
    ):
        query = "&".join(f"{key}={quote(value)}" for key, value in filters.items())
        found = (await bench.get(f"/snapshots?{query}", at=at, by=by))["snapshots"]
        assert {snapshot["name"] for snapshot in found} == expected, filters
    assert (await bench.call("GET", "/snapshots?host=x", at=31)).status_code == 400


async def test_metadata(bench: Bench) -> None:
    snapshot = await bench.snapshot(await bench.volume(), user_metadata={"a": "1"})
    path = f"/snapshots/{snapshot}/metadata"
    added = await bench.call("POST", path, {"metadata": {"b": "2"}})
    assert added.json() == {"metadata": {"a": "1", "b": "2"}}
    one = await bench.call("PUT", f"{path}/a", {"meta": {"a": "3"}})
    assert one.json() == {"meta": {"a": "3"}} == await bench.get(f"{path}/a")
    assert message(await bench.call("PUT", f"{path}/a", {"meta": {"b": "1"}})) == "Request body and URI mismatch"
    assert (await bench.call("PUT", path, {"metadata": {"c": "4"}})).json() == {"metadata": {"c": "4"}}
    answer = await bench.call("GET", f"{path}/a")
    assert (answer.status_code, message(answer)) == (404, f"Snapshot {snapshot} has no metadata with key a.")
    assert (await bench.call("DELETE", f"{path}/a")).status_code == 404
    assert (await bench.call("DELETE", f"{path}/c")).status_code == 200
    assert await bench.get(path) == {"metadata": {}}


async def test_reset_status(bench: Bench) -> None:
    snapshot = await bench.snapshot(await bench.volume(), status="error_deleting")
    assert (await _act(bench, snapshot, "os-reset_status", {"status": "Available"})).status_code == 202
    assert (await bench.get(f"/snapshots/{snapshot}"))["snapshot"]["status"] == "available"
    for value in ({"status": "nonsense"}, {"status": ""}, {}, None, {"status": "error", "else": 1}):
        assert (await _act(bench, snapshot, "os-reset_status", value)).status_code == 400
    assert (await _act(bench, snapshot, "os-reset_status", {"status": "error"}, by="member")).status_code == 403
    assert (await _act(bench, ABSENT, "os-reset_status", {"status": "error"})).status_code == 404


async def test_what_nova_reports(bench: Bench) -> None:
    volume = await bench.volume()
    key = "os-update_snapshot_status"
    for now, said, fine in (
        ("creating", "available", True),
        ("creating", "error", True),
        ("deleting", "error_deleting", True),
        ("creating", "deleting", False),
        ("deleting", "available", False),
        ("available", "error", False),
    ):
        snapshot = await bench.snapshot(volume, status=now)
        answer = await _act(bench, snapshot, key, {"status": said, "progress": "42%"}, by="member")
        assert answer.status_code == (202 if fine else 400)
        shown = (await bench.get(f"/snapshots/{snapshot}"))["snapshot"]
        assert shown["status"] == (said if fine else now)
        assert shown["os-extended-snapshot-attributes:progress"] == ("42%" if fine else "100%")
    snapshot = await bench.snapshot(volume, status="creating")
    for progress in ("101%", "5", "x%", "-1%"):
        value = {"status": "available", "progress": progress}
        assert (await _act(bench, snapshot, key, value, by="member")).status_code == 400
