"""What a request asks for, and what it refuses to be."""

from __future__ import annotations

import pickle
from dataclasses import replace

import pytest

from cluster.scheduling.request import Operation, PlacementRequest

ASK = PlacementRequest("11111111-1111-1111-1111-111111111111", 10)


@pytest.mark.parametrize(
    ("operation", "size", "current", "asked"),
    [
        (Operation.CREATE, 10, 0, 10),
        (Operation.EXTEND, 10, 4, 6),
        (Operation.EXTEND, 4, 4, 0),
        (Operation.MANAGE, 10, 0, 0),
    ],
)
def test_the_room_asked_for(operation: Operation, size: int, current: int, asked: int) -> None:
    request = replace(ASK, operation=operation, size_gib=size, current_size_gib=current, required_host="h@b#p")
    assert request.asked_gib == asked
    assert request.follows_source is (operation is Operation.CREATE)


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"size_gib": -1}, "from 0 up"),
        ({"operation": Operation.EXTEND, "required_host": "h", "current_size_gib": 11}, "cannot shrink from 11 to 10"),
        ({"operation": Operation.EXTEND}, "extend needs required_host"),
        ({"operation": Operation.MANAGE}, "manage needs required_host"),
    ],
)
def test_what_cannot_be_asked(changes: dict[str, object], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        replace(ASK, **changes)  # type: ignore[arg-type]


def test_a_request_that_was_read_still_travels() -> None:
    request = replace(ASK, extra_specs={"a": "<or> b", "label:x": "!y"}, hints={"query": '["=", 1, 1]'})
    assert request.requirements
    assert request.label_terms
    assert request.query is not None
    arrived = pickle.loads(pickle.dumps(request))
    assert arrived == request
    assert arrived.requirements == request.requirements
