"""Ray's selector syntax."""

from __future__ import annotations

import pytest

from cluster.scheduling.errors import LabelSelectorError
from cluster.scheduling.labels import parse_selector


@pytest.mark.parametrize(
    ("selector", "value", "fits"),
    [
        ("a", "a", True),
        ("a", "b", False),
        ("a", None, False),
        ("!a", "a", False),
        ("!a", "b", True),
        ("!a", None, True),
        ("in(a,b)", "b", True),
        ("in(a, b)", "b", True),
        ("in(a,b)", "c", False),
        ("in(a,b)", None, False),
        ("!in(a,b)", "a", False),
        ("!in(a,b)", "c", True),
        ("!in(a,b)", None, True),
        ("in(a)", "a", True),
        ("", "", True),
        ("", None, False),
        ("in", "in", True),
    ],
)
def test_selector(selector: str, value: str | None, fits: bool) -> None:
    assert parse_selector(selector).matches(value) is fits


@pytest.mark.parametrize(
    "text", ["!", "!!a", "in()", "in(a,", "(a,b)", "-a", "a_", "a b", "s== a", "a" * 64, "in(a,!b)"]
)
def test_what_is_no_selector_is_refused(text: str) -> None:
    with pytest.raises(LabelSelectorError, match="write v, !v"):
        parse_selector(text)
