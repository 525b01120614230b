"""Pages of a real table: every order, nulls included, gives each row exactly once."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Boolean, Column, Connection, Integer, MetaData, String, Table, create_engine, insert, select
from starlette.datastructures import QueryParams

from cluster.caller import Caller
from serve_app.wire.faults import BadRequest
from serve_app.wire.filters import filters_of, parse_time_filter
from serve_app.wire.links import links
from serve_app.wire.paging import Page, all_tenants, apply_page, next_links, page_of, with_count
from serve_app.wire.route import Call
from tests.unit.wire.conftest import make_room

KEYS = frozenset(("created_at", "name", "size", "flag"))
TABLE = Table(
    "thing",
    MetaData(),
    Column("id", String, primary_key=True),
    Column("created_at", String, nullable=False),
    Column("name", String),
    Column("size", Integer),
    Column("flag", Boolean, nullable=False),
)
ROWS = [
    {
        "id": f"{number:02}",
        "created_at": f"2026-01-0{1 + number % 3}",
        "name": None if number % 4 == 0 else f"n{number % 5}",
        "size": None if number % 3 == 0 else number % 7,
        "flag": number % 2 == 0,
    }
    for number in range(23)
]


@pytest.fixture
def make_call(tmp_path: Path) -> Any:
    room = make_room(tmp_path, max_limit=20)

    def make(query: str = "", minor: int = 71, role: str = "member") -> Call:
        caller = Caller("u", "p", "req", frozenset((role,)), role == "admin")
        return Call(room, caller, minor, {}, QueryParams(query), {}, "http://h", "http://h/v3/ab")

    return make


@pytest.fixture
def db() -> Iterator[Connection]:
    engine = create_engine("sqlite://")
    TABLE.metadata.create_all(engine)
    with engine.connect() as connection:
        connection.execute(insert(TABLE), ROWS)
        yield connection
    engine.dispose()


def walk(db: Connection, sort: tuple[tuple[str, str], ...], limit: int) -> list[dict[str, Any]]:
    columns = {column.name: column for column in TABLE.columns}
    seen: list[dict[str, Any]] = []
    marker: dict[str, Any] | None = None
    while True:
        page = Page(limit, None, 0, sort)
        rows = [dict(row) for row in db.execute(apply_page(select(TABLE), columns, page, marker)).mappings()]
        seen += rows
        if len(rows) < limit:
            return seen
        marker = rows[-1]


def order(row: dict[str, Any], key: str) -> tuple[bool, Any]:
    return (row[key] is not None, row[key])


@pytest.mark.parametrize("limit", [1, 4, 30])
@pytest.mark.parametrize(
    "sort",
    [
        (("created_at", "desc"), ("id", "desc")),
        (("created_at", "asc"), ("id", "asc")),
        (("created_at", "asc"), ("id", "desc")),
        (("name", "asc"), ("id", "asc")),
        (("name", "desc"), ("id", "desc")),
        (("name", "desc"), ("size", "asc"), ("id", "desc")),
        (("size", "asc"), ("name", "desc"), ("created_at", "asc"), ("id", "asc")),
        (("flag", "asc"), ("id", "desc")),
    ],
)
def test_every_row_once_and_in_order(db: Connection, sort: tuple[tuple[str, str], ...], limit: int) -> None:
    expected = list(ROWS)
    for key, direction in reversed(sort):
        expected.sort(key=lambda row: order(row, key), reverse=direction == "desc")
    assert [row["id"] for row in walk(db, sort, limit)] == [row["id"] for row in expected]


def test_defaults_and_caps(make_call: Any) -> None:
    assert page_of(make_call(), KEYS) == Page(20, None, 0, (("created_at", "desc"), ("id", "desc")))
    page = page_of(make_call("limit=500&marker=m&offset=3&sort=name:asc,size"), KEYS)
    assert page == Page(20, "m", 3, (("name", "asc"), ("size", "desc"), ("id", "asc")))
    assert page_of(make_call("limit=0"), KEYS).limit == 0
    assert page_of(make_call("sort_key=name&sort_dir=asc"), KEYS).sort == (("name", "asc"), ("id", "asc"))
    assert page_of(make_call("sort_dir=asc"), KEYS).sort == (("created_at", "asc"), ("id", "asc"))
    assert page_of(make_call("sort=id:asc"), KEYS).sort == (("id", "asc"),)


@pytest.mark.parametrize(
    "query",
    [
        "limit=-1",
        "limit=x",
        "limit=",
        "limit=1.5",
        "offset=-1",
        "offset=x",
        "offset=2147483648",
        "sort=nope",
        "sort=",
        "sort=name:up",
        "sort=name&sort_key=name",
        "sort=name&sort_dir=asc",
        "sort_key=nope",
        "sort_dir=sideways",
    ],
)
def test_refused_pages(make_call: Any, query: str) -> None:
    with pytest.raises(BadRequest):
        page_of(make_call(query), KEYS)


def test_next_links(make_call: Any) -> None:
    call = make_call("limit=2&marker=old&offset=1&name=a%20b")
    page = page_of(call, KEYS)
    assert next_links(call, "volumes/detail", page, [1], "x") == {}
    assert next_links(call, "volumes/detail", page, [], None) == {}
    href = "http://h/v3/ab/volumes/detail?limit=2&name=a+b&marker=x"
    assert next_links(call, "volumes/detail", page, [1, 2], "x") == {"volumes_links": [{"rel": "next", "href": href}]}
    assert set(next_links(call, "types", page, [1, 2], "x", key="volume_type_links")) == {"volume_type_links"}


def test_links(make_call: Any) -> None:
    assert links(make_call(), "volumes", "1") == [
        {"rel": "self", "href": "http://h/v3/ab/volumes/1"},
        {"rel": "bookmark", "href": "http://h/ab/volumes/1"},
    ]


def test_flags(make_call: Any) -> None:
    assert all_tenants(make_call("all_tenants=1", role="admin"))
    assert not all_tenants(make_call("all_tenants=1"))
    assert not all_tenants(make_call("all_tenants=off", role="admin"))
    with pytest.raises(BadRequest):
        all_tenants(make_call("all_tenants=si"))
    assert with_count(make_call("with_count=True"))
    assert not with_count(make_call("with_count=True", minor=44))


def test_filters(make_call: Any) -> None:
    known = frozenset(("name", "status", "host"))
    query = "name=a&status=error&limit=3&all_tenants=1&sort=name"
    assert filters_of(make_call(query), "volume", known) == {"name": "a", "status": "error"}
    assert filters_of(make_call("host=h&odd=1", minor=30), "volume", known) == {}
    with pytest.raises(BadRequest, match="Invalid filters host,odd are found in query options"):
        filters_of(make_call("host=h&odd=1"), "volume", known)
    assert filters_of(make_call("host=h&odd=1", role="admin"), "volume", known) == {"host": "h", "odd": "1"}
    assert filters_of(make_call("name~=a"), "volume", known) == {"name~": "a"}
    with pytest.raises(BadRequest):
        filters_of(make_call("name~=a", minor=33), "volume", known)
    with pytest.raises(BadRequest, match="ASCII"):
        filters_of(make_call("é=1", role="admin"), "volume", known)
    with pytest.raises(BadRequest):
        filters_of(make_call("odd=1", role="admin"), "pool", known)


def test_time_filters() -> None:
    found = parse_time_filter("gt:2026-01-02T03:04:05,lte:2026-01-02T03:04:05+02:00")
    assert found == [("gt", "2026-01-02T03:04:05.000000"), ("lte", "2026-01-02T01:04:05.000000")]
    assert parse_time_filter("gt:2026-01-02T00:00:00,gt:2026-01-03T00:00:00") == [("gt", "2026-01-03T00:00:00.000000")]
    for wrong in ("", "gt", "gt:", "like:2026-01-01", "gt:yesterday", "2026-01-01", "gt:0001-01-01T00:00:00+10:00"):
        with pytest.raises(BadRequest):
            parse_time_filter(wrong)
