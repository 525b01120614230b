"""The query hint."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.scheduling.errors import QueryError
from cluster.scheduling.json_query import read

NAMES: dict[str, object] = {
    "free": 20,
    "name": "gold",
    "caps": {"a": {"b": 1}, "label:x.y/z": "v"},
    "label:p.q/r": "w",
}


@pytest.mark.parametrize(
    ("query", "holds"),
    [
        ([], True),
        (["=", "$free", 20], True),
        (["=", "$free", 20, 20], True),
        (["=", "$free", 20, 21], False),
        ([">", "$free", 19], True),
        (["<", "$free", 19], False),
        ([">=", "$free", 20], True),
        (["<=", "$free", 19], False),
        (["in", "$name", "silver", "gold"], True),
        (["in", "$name", "silver"], False),
        (["=", "$caps.a.b", 1], True),
        (["=", "$caps.label:x.y/z", "v"], True),
        (["=", "$label:p.q/r", "w"], True),
        (["=", "$missing", 1], False),
        (["=", "$caps.a.b.c", 1], False),
        (["=", 1], False),
        (["not", ["=", "$free", 20]], False),
        (["and", ["=", "$free", 20], ["not", [">", "$free", 30]]], True),
        (["and", ["=", "$free", 20], ["not", [">", "$free", 3]]], False),
        (["or", ["=", "$free", 1], ["=", "$name", "gold"]], True),
        (["and", ["=", "$free", 1], ["=", "$name", "gold"]], False),
        (["=", "", 1], False),
    ],
)
def test_query(query: list[object], holds: bool) -> None:
    assert read(json.dumps(query))(NAMES.get) is holds
    assert read(query)(NAMES.get) is holds


@pytest.mark.parametrize("hint", ["", "{", "3", '"="', '["~", 1, 2]', "[1, 2]", '["=", {"a": 1}, 2]', "[[]]"])
def test_what_is_no_query_is_refused(hint: str) -> None:
    with pytest.raises(QueryError, match="the query hint"):
        read(hint)


def test_deep_nesting_is_refused() -> None:
    with pytest.raises(QueryError, match="nested deeper"):
        read('["not",' * 100 + "true" + "]" * 100)
    with pytest.raises(QueryError):
        read("[" * 100_000)


def test_kinds_that_do_not_compare_are_refused() -> None:
    with pytest.raises(QueryError, match="not of one kind"):
        read(["<", "$name", 3])(NAMES.get)


@given(st.text(max_size=40))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        query = read(text)
    except QueryError:
        return
    assert query(NAMES.get) in (True, False)
