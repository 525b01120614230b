"""Node labels asked for in Ray's selector syntax: `v`, `!v`, `in(a,b)`, `!in(a,b)`. Knows no pools.

As in Ray, a negation also matches a node that lacks the key (ray-facts: labels), and a label value is at most 63
letters, digits, `-`, `_`, `.`, beginning and ending with a letter or digit, or empty.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

from cluster.scheduling.errors import LabelSelectorError

_VALUE = r"[A-Za-z0-9](?:[A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?"
_SELECTOR = re.compile(rf"(?P<no>!?)(?:in\(\s*(?P<many>{_VALUE}(?:\s*,\s*{_VALUE})*)\s*\)|(?P<one>{_VALUE}))")


@dataclass(frozen=True, slots=True)
class LabelSelector:
    """One condition on the value of a label: it is (or, `negated`, is not) one of `values`."""

    values: frozenset[str]
    negated: bool

    def matches(self, value: str | None) -> bool:
        """Whether a node whose label has `value` (None: lacks the key) fits."""
        return (value in self.values) is not self.negated


@lru_cache(maxsize=1024)
def parse_selector(text: str) -> LabelSelector:
    """Read a selector. Raises LabelSelectorError."""
    if text == "":
        return LabelSelector(frozenset({""}), negated=False)
    found = _SELECTOR.fullmatch(text.strip())
    if found is None:
        raise LabelSelectorError(f"{text[:80]!r} is not a label selector: write v, !v, in(a,b) or !in(a,b)")
    values = found["one"] if found["one"] is not None else found["many"]
    return LabelSelector(frozenset(part.strip() for part in values.split(",")), negated=bool(found["no"]))
