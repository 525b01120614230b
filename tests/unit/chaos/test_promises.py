"""The checks of `tests.chaos` find what they are for: lost, doubled, undead, misshapen and unasked-for volumes."""

from __future__ import annotations

from typing import Any

import pytest

from tests.chaos.invariants import promises
from tests.chaos.ledger import Answer, Item, Ledger, Verdict

ACCEPTED, REFUSED, LOST = Verdict.ACKNOWLEDGED, Verdict.REFUSED, Verdict.UNKNOWN


def answer(verdict: Verdict, item_id: str = "", status: int | None = None) -> Answer:
    return Answer(verdict, status, None, {"volume": {"id": item_id}})


def row(name: str, item_id: str, size: int = 1) -> dict[str, Any]:
    return {"name": name, "id": item_id, "size": size, "status": "available"}


@pytest.fixture
def ledger() -> Ledger:
    return Ledger()


def created(ledger: Ledger, name: str, verdict: Verdict, item_id: str = "") -> Item:
    item = ledger.created("volumes", name, answer(verdict, item_id), {1}, None, None)
    assert item is not None
    return item


def broken(ledger: Ledger, *rows: dict[str, Any]) -> list[str]:
    return list(promises(ledger, {"volumes": list(rows), "snapshots": []}))


def test_what_was_accepted_must_be_there(ledger: Ledger) -> None:
    created(ledger, "a", ACCEPTED, "1")
    assert broken(ledger, row("a", "1")) == []
    assert broken(ledger) == ["volumes a (1) was accepted, never deleted, and is not there"]


def test_what_was_refused_must_not_be_there(ledger: Ledger) -> None:
    assert ledger.created("volumes", "a", answer(REFUSED), {1}, None, None) is None
    assert broken(ledger) == []
    assert broken(ledger, row("a", "1")) == ["volumes a is there, and nobody asked for it or it was gone already"]


def test_what_was_not_answered_is_there_once_or_not_at_all(ledger: Ledger) -> None:
    created(ledger, "a", LOST)
    created(ledger, "b", LOST)
    assert broken(ledger, row("b", "2")) == []
    assert [(item.name, item.id, item.usable) for item in ledger.items] == [("b", "2", True)]
    assert broken(ledger, row("b", "2"), row("a", "1")) == [
        "volumes a is there, and nobody asked for it or it was gone already"
    ]


def test_nothing_is_there_twice(ledger: Ledger) -> None:
    created(ledger, "a", LOST)
    assert "volumes a: there are 2, and one was asked for" in broken(ledger, row("a", "1"), row("a", "2"))


def test_what_was_accepted_has_its_id(ledger: Ledger) -> None:
    created(ledger, "a", ACCEPTED, "1")
    assert broken(ledger, row("a", "2")) == ["volumes a was accepted as 1 and is 2"]


def test_an_accepted_deletion_has_happened(ledger: Ledger) -> None:
    item = created(ledger, "a", ACCEPTED, "1")
    ledger.deleted(item, answer(ACCEPTED))
    assert broken(ledger, row("a", "1")) == ["volumes a (1): its deletion was accepted, and it is available"]


def test_a_deletion_without_an_answer_may_have_happened(ledger: Ledger) -> None:
    item = created(ledger, "a", ACCEPTED, "1")
    ledger.deleted(item, answer(LOST))
    assert not item.usable
    assert broken(ledger, row("a", "1")) == []
    assert item.usable
    ledger.deleted(item, answer(LOST))
    ledger.deleted(item, answer(REFUSED, status=404))
    assert item.deletion is ACCEPTED
    assert broken(ledger) == []


def test_a_404_alone_is_no_deletion(ledger: Ledger) -> None:
    item = created(ledger, "a", ACCEPTED, "1")
    ledger.deleted(item, answer(REFUSED, status=404))
    assert broken(ledger) == ["volumes a (1) was accepted, never deleted, and is not there"]


def test_an_accepted_extension_has_happened_and_one_without_an_answer_may_have(ledger: Ledger) -> None:
    item = created(ledger, "a", ACCEPTED, "1")
    ledger.extended(item, answer(LOST), 2)
    assert broken(ledger, row("a", "1", 2)) == []
    ledger.extended(item, answer(ACCEPTED), 3)
    assert broken(ledger, row("a", "1", 2)) == ["volumes a (1) has 2 GiB instead of [3]"]
