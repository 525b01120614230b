"""The filter and goodness language."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.scheduling.errors import ExpressionError
from cluster.scheduling.expressions import Value, evaluate

NAMES: dict[str, dict[str, object]] = {
    "stats": {"free_capacity_gb": 20.5, "host": "h@b#p", "total_capacity_gb": "infinite"},
    "capabilities": {"multiattach": True, "off": False, "text_number": "7", "list": [1]},
    "volume": {"size": 4, "none": None},
    "extra": {},
    "qos": {"iops": "500"},
}


def value(expression: str) -> Value:
    return evaluate(expression, lambda namespace, name: NAMES[namespace][name])


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("1 + 2 * 3", 7),
        ("(1 + 2) * 3", 9),
        ("7 / 2", 3.5),
        ("8 - 4 - 2", 2),
        ("16 / 4 / 2", 2),
        ("2 ^ 3 ^ 2", 512),
        ("-2 ^ 2", -4),
        ("2 ^ -1", 0.5),
        ("2 * -3", -6),
        ("+5", 5),
        ("1.5 + 1", 2.5),
        ("abs(-3) + min(4, 2, 3) + max(1, 5)", 10),
        ("min(1 + 1, abs(0 - 9))", 2),
        # Comparisons, chained.
        ("1 < 2", True),
        ("1 < 2 < 3", True),
        ("1 < 3 < 2", False),
        ("3 > 2 >= 2 == 2 != 1", True),
        ("2 <> 3", True),
        ("2 <= 1", False),
        # Truth.
        ("1 < 2 and 2 < 3", True),
        ("1 < 2 && 2 > 3", False),
        ("1 > 2 or 2 < 3", True),
        ("1 > 2 || 2 > 3 OR 1 == 1", True),
        ("1 == 1 AND 1 == 1 AND 1 == 2", False),
        ("1 == 2 and 1 == 1 or 1 == 1", True),
        ("not 0", True),
        ("!(1 < 2)", False),
        ("NOT 1 == 0", True),
        # "not" is tighter than a comparison: (!5) < 3.
        ("!5 < 3", True),
        ("5 and 50", 50),
        ("0 or 50", 50),
        # Ternary, looser than a comparison and tighter than "and".
        ("2 > 1 ? 100 : 50", 100),
        ("(volume.size > 5) ? 30 : 80", 80),
        ("0 ? 1 : 0 ? 2 : 3", 3),
        ("1 ? 0 ? 1 : 2 : 3", 2),
        ("0 && 1 ? 5 : 6", 0),
        # Names.
        ("volume.size * 2", 8),
        ("stats.free_capacity_gb > 20", True),
        ("qos.iops >= 500", True),
        ("capabilities.text_number + 1", 8),
        ("capabilities.multiattach == 1", True),
        ("capabilities.off", 0),
        ("stats.host == 'h@b#p'", True),
        ('stats.host != "x"', True),
        ("stats.total_capacity_gb == infinite", True),
        ("'5' == 5", False),
        ("'a' < 'b'", True),
        # What cannot change the result is not worked out.
        ("1 or extra.missing", 1),
        ("0 and extra.missing", 0),
        ("1 ? 2 : extra.missing", 2),
    ],
)
def test_value(expression: str, expected: Value) -> None:
    assert value(expression) == expected


@pytest.mark.parametrize(
    ("expression", "why"),
    [
        ("", "does not belong there"),
        ("1 +", "'the end' does not belong"),
        ("1 2", "'2' does not belong"),
        ("(1", "'the end' does not belong"),
        ("1)", "'\\)' does not belong"),
        ("1 = 1", "unreadable at '= 1'"),
        ("__import__('os')", "does not belong"),
        ("a.b.c", "is no variable"),
        ("os.system", "is no variable"),
        ("stats.", "is no variable"),
        ("extra.missing > 1", "extra.missing is not known here"),
        ("volume.none > 1", "not set"),
        ("capabilities.list > 1", "neither a number nor text"),
        ("stats.host > 1", "compares a number with text"),
        ("stats.host + 1", "is not a number"),
        ("'a' * 99", "is not a number"),
        ("-'a'", "is not a number"),
        ("max('a', 1)", "is not a number"),
        ("1 / 0", "divides by zero"),
        ("0 ^ -1", "divides by zero"),
        ("9 ^ 9 ^ 9 ^ 9", "too large"),
        ("(0 - 8) ^ 0.5", "not a real number"),
        ("abs(1, 2)", "abs takes one value"),
        ("min(1)", "min takes several"),
        ("1 ? 2", "does not belong"),
        ("(" * 100 + "1" + ")" * 100, "nested deeper"),
        ("!" * 100 + "1", "nested deeper"),
        ("+".join("1" * 300), "more than 400 parts"),
    ],
)
def test_what_is_wrong_is_said(expression: str, why: str) -> None:
    with pytest.raises(ExpressionError, match=why):
        value(expression)


def test_a_long_chain_is_worked_out() -> None:
    assert value("+".join("1" * 200)) == 200


_WORDS = "1 2.5 'x' foo volume.size stats.host extra.no ( ) + - * / ^ ! not && and || or < <= == != <> ? : , abs( min("


@given(st.one_of(st.text(max_size=40), st.lists(st.sampled_from(_WORDS.split()), max_size=20).map(" ".join)))
def test_any_text_has_a_value_or_raises_its_own_error(text: str) -> None:
    try:
        result = value(text)
    except ExpressionError:
        return
    assert isinstance(result, (bool, int, float, str))
