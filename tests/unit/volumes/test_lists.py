"""Lists of volumes: pages, filters, sorting, numbers."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import pytest

from cluster.volumes.records import Volume
from tests.unit.volumes.bench import ABSENT, DEFAULT_TYPE, OTHER, POOL, Bench, message

BASE = "http://127.0.0.1:8776"


async def _ids(bench: Bench, query: str = "", **options: Any) -> list[str]:
    return [volume["id"] for volume in (await bench.get(f"/volumes{query}", **options))["volumes"]]


async def _matching(bench: Bench, at: int = 31, by: str = "admin", **filters: str) -> set[str | None]:
    query = "&".join(f"{key}={quote(value)}" for key, value in filters.items())
    found = (await bench.get(f"/volumes/detail?{query}", at=at, by=by))["volumes"]
    return {volume["name"] for volume in found}


async def test_the_short_list_is_newest_first_and_the_projects_own(bench: Bench) -> None:
    first, second = await bench.volume(name="a"), await bench.volume()
    await bench.volume(project_id=OTHER)
    found = (await bench.get("/volumes"))["volumes"]
    assert [volume["id"] for volume in found] == [second, first]
    assert set(found[0]) == {"id", "name", "links"}
    assert len(await _ids(bench, "?all_tenants=1")) == 2
    assert len(await _ids(bench, "?all_tenants=1", by="admin")) == 3
    assert len(await _ids(bench, by="admin")) == 2


async def test_targets_of_migrations_are_the_administrators(bench: Bench) -> None:
    await bench.volume(migration_status=f"target:{ABSENT}")
    assert len(await _ids(bench)) == 0
    assert len(await _ids(bench, by="admin")) == 1


@pytest.mark.parametrize("sort", ["", "sort=size:asc", "sort=name:desc,size", "sort_key=status&sort_dir=asc"])
async def test_pages_over_ties_miss_nothing_and_repeat_nothing(bench: Bench, sort: str) -> None:
    for number in range(11):
        name = None if number % 4 == 0 else f"n{number % 3}"
        await bench.volume(created_at="2026-01-01T00:00:00.000000", size_gib=1 + number % 3, name=name)
    whole = await _ids(bench, f"?{sort}")
    assert len(set(whole)) == 11
    path, seen = f"/volumes/detail?limit=3&{sort}", []
    while path:
        body = await bench.get(path)
        assert len(body["volumes"]) <= 3
        seen += [volume["id"] for volume in body["volumes"]]
        links = body.get("volumes_links")
        path = links[0]["href"].partition("/v3/")[2].partition("/")[2] if links else ""
        path = path and f"/{path}"
    assert seen == whole


async def test_limits_markers_offsets(bench: Bench) -> None:
    ids = [await bench.volume() for _ in range(4)][::-1]
    assert await bench.get("/volumes?limit=0") == {"volumes": []}
    assert await _ids(bench, "?offset=1&limit=2") == ids[1:3]
    assert await _ids(bench, f"?marker={ids[1]}") == ids[2:]
    body = await bench.get("/volumes?limit=2&all_tenants=0")
    assert body["volumes_links"][0]["rel"] == "next"
    assert body["volumes_links"][0]["href"].startswith(f"{BASE}/v3/")
    assert "marker=" + ids[1] in body["volumes_links"][0]["href"]
    assert "volumes_links" not in await bench.get("/volumes?limit=5")
    for query, status in (
        ("limit=-1", 400),
        ("limit=x", 400),
        (f"marker={ABSENT}", 404),
        ("marker=x", 404),
        ("sort=nothing", 400),
    ):
        assert (await bench.call("GET", f"/volumes?{query}")).status_code == status
    theirs = await bench.volume(project_id=OTHER)
    assert (await bench.call("GET", f"/volumes?marker={theirs}")).status_code == 404


async def test_the_count_is_of_all_that_match(bench: Bench) -> None:
    for number in range(5):
        await bench.volume(name="odd" if number % 2 else "even")
    assert (await bench.get("/volumes?with_count=true&limit=1&name=even", at=45))["count"] == 3
    assert (await bench.get("/volumes/detail?with_count=1&limit=0", at=45))["count"] == 5
    assert "count" not in await bench.get("/volumes?with_count=0", at=45)
    assert "count" not in await bench.get("/volumes?with_count=1", at=30)


async def test_each_filter(bench: Bench) -> None:
    await bench.volume(name="one", status="error", size_gib=5, availability_zone="east", bootable=True)
    await bench.volume(name="two", user_metadata={"k": "v"}, group_id=ABSENT, image_metadata={"os": "x"})
    await bench.volume(name="three", admin_metadata={"readonly": "True"}, host="h2@other#q", consumes_quota=False)
    for expected, filters in (
        ({"one"}, {"name": "one"}),
        ({"one"}, {"status": "error"}),
        ({"one", "two", "three"}, {"status": "['error', 'available']"}),
        ({"one"}, {"size": "5"}),
        ({"one"}, {"availability_zone": "east"}),
        ({"one"}, {"bootable": "true"}),
        ({"two", "three"}, {"bootable": "0"}),
        ({"two"}, {"metadata": "{'k': 'v'}"}),
        ({"two"}, {"metadata": '{"k": "v"}'}),
        (set(), {"metadata": "{'k': 'w'}"}),
        (set(), {"metadata": "{'k\"': 'v'}"}),
        (set(), {"metadata": "k"}),
        ({"one", "two", "three"}, {"metadata": "{}"}),
        ({"three"}, {"metadata": "{'readonly': 'True'}"}),
        ({"two"}, {"glance_metadata": "{'os': 'x'}"}),
        ({"two"}, {"group_id": ABSENT}),
        ({"one", "three"}, {"group_id": "None"}),
        ({"one", "two", "three"}, {"migration_status": "None"}),
        ({"three"}, {"consumes_quota": "false"}),
        ({"one", "two"}, {"host": "h1@reflink"}),
        ({"one", "two"}, {"host": POOL}),
        (set(), {"host": "h1"}),
        (set(), {"no_such": "x"}),
        (set(), {"user_metadata": "x"}),
        (set(), {"size": "large"}),
        (set(), {"size": "-1"}),
        (set(), {"size": "9" * 30}),
        (set(), {"size": "[" + "0x" + "f" * 4000 + "]"}),
        (set(), {"size": "9" * 5000}),
        ({"two", "three"}, {"size": "[1, '1']"}),
        ({"one", "two", "three"}, {"size": "(1, 5)"}),
        ({"one", "three"}, {"group_id": "[None]"}),
        ({"one", "two", "three"}, {"group_id": f"[None, '{ABSENT}']"}),
        (set(), {"status": "[]"}),
        ({"one"}, {"use_quota": "[True]", "status": "error"}),
        (set(), {"name": "' OR 1=1 --"}),
    ):
        assert await _matching(bench, **filters) == expected, filters


async def test_time_filters(bench: Bench) -> None:
    for day in (1, 2, 3):
        await bench.volume(name=str(day), created_at=f"2026-01-0{day}T00:00:00.000000")
    for expected, value in (
        ({"2", "3"}, "gte:2026-01-02T00:00:00"),
        ({"2"}, "gt:2026-01-01T00:00:00,lt:2026-01-03T00:00:00Z"),
        ({"1", "3"}, "neq:2026-01-02T02:00:00+02:00"),
        ({"1"}, "eq:2026-01-01T00:00:00.000000"),
    ):
        assert await _matching(bench, at=60, by="member", created_at=value) == expected
    for value in ("after:2026-01-01T00:00:00", "gt:yesterday", "gt"):
        assert (await bench.call("GET", f"/volumes?created_at={value}", at=60)).status_code == 400
    assert len(await _matching(bench, at=30, created_at="gt:2027-01-01T00:00:00")) == 3


async def test_parts_of_names(bench: Bench) -> None:
    for name in ("database", "data_1", "web"):
        await bench.volume(name=name)
    query = {"name~": "DATA"}
    assert await _matching(bench, at=34, **query) == {"database", "data_1"}
    assert await _matching(bench, at=34, by="member", **{"name~": "a_1"}) == {"data_1"}
    assert await _matching(bench, at=34, **{"size~": "1"}) == set()


async def test_filters_that_came_later_are_dropped_before(bench: Bench) -> None:
    await bench.volume(name="v")
    assert await _matching(bench, at=3, glance_metadata="{'a': 'b'}") == {"v"}
    assert await _matching(bench, at=4, glance_metadata="{'a': 'b'}") == set()
    assert await _matching(bench, at=9, group_id=ABSENT) == {"v"}
    assert await _matching(bench, at=10, group_id=ABSENT) == set()


async def test_bootable_is_strict_from_3_2(bench: Bench) -> None:
    await bench.volume(name="v", bootable=True)
    assert await _matching(bench, at=1, bootable="perhaps") == {"v"}
    answer = await bench.call("GET", "/volumes?bootable=perhaps", at=2)
    assert (answer.status_code, message(answer)) == (400, "Invalid input received: 'bootable = perhaps'")


async def test_unknown_filters_of_members(bench: Bench) -> None:
    await bench.volume(name="v")
    assert await _matching(bench, at=30, by="member", host="nowhere") == {"v"}
    assert (await bench.call("GET", "/volumes?host=nowhere", at=31)).status_code == 400
    assert await _matching(bench, at=31, by="member", all_tenants="1") == {"v"}


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("status", r"'\ud800'"),
        ("status", r"'\x00'"),
        ("host", r"'\ud800'"),
        ("volume_id", r"['\ud800']"),
        ("metadata", r"{'a': '\ud800'}"),
        ("metadata", r"{'\udfff': 'a'}"),
        ("metadata", r'{"a": "\u0000", "b": true}'),
        ("status", "[" + "1," * 257 + "]"),
        ("metadata", "{" + ",".join(f"{number}:1" for number in range(257)) + "}"),
        ("name~", "x" * 9000),
    ],
)
@pytest.mark.parametrize("path", ["/volumes", "/volumes/detail", "/snapshots"])
async def test_filter_values_that_no_database_can_hold(bench: Bench, path: str, key: str, value: str) -> None:
    answer = await bench.call("GET", f"{path}?{key}={quote(value)}", at=71, by="admin")
    assert answer.status_code == 400
    assert message(answer).startswith("Invalid input received: a filter ")


async def test_filters_of_many_values(bench: Bench) -> None:
    await bench.volume(name="a", created_at="2026-01-02T00:00:00.000000")
    assert await _matching(bench, status="['error'," + "'available'," * 255 + "]") == {"a"}
    assert await _matching(bench, metadata="{" + ",".join(f"'k{key}':1" for key in range(256)) + "}") == set()
    # As in Cinder one comparison an operator counts, the last.
    times = ",".join(["gt:2027-01-01T00:00:00"] * 255 + ["gt:2026-01-01T00:00:00"])
    assert await _matching(bench, at=60, created_at=times) == {"a"}
    for many in (times + "," + times, ",".join(["gt:2026-01-01T00:00:00"] * 1500)):
        assert (await bench.call("GET", f"/volumes?created_at={many}", at=60)).status_code == 400
    assert (await bench.call("GET", f"/volumes?status=[{'1,' * 1500}]", at=60)).status_code == 400


async def test_a_long_literal_is_only_text(bench: Bench) -> None:
    await bench.volume(name="v")
    assert await _matching(bench, metadata="{" * 3000) == set()
    assert await _matching(bench, status="[" * 3000) == set()


async def test_the_type_is_joined_and_its_loss_survived(bench: Bench) -> None:
    await bench.volume()
    volume = await bench.volume(volume_type_id=None)
    types = [found["volume_type"] for found in (await bench.get("/volumes/detail"))["volumes"]]
    assert types == [None, "__DEFAULT__"]
    await bench.set(Volume, volume, volume_type_id=DEFAULT_TYPE)
    assert (await bench.get(f"/volumes/{volume}"))["volume"]["volume_type"] == "__DEFAULT__"
