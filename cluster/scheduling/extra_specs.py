"""What a volume type's extra specs ask of a pool: the operators and the rule of scopes (scheduler facts §3, §4).

Specs are read once a request into `Requirement`s, which are then asked of every pool. A spec that can never be
satisfied (a missing operand, text where a number belongs) fails every pool, as in Cinder; it raises nothing.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

from cluster.scheduling.pool_state import PoolState, protocol_variants

_TRUE_WORDS: Final = frozenset({"1", "t", "true", "on", "y", "yes"})


def is_true(value: object) -> bool:
    """Whether `value` reads as true in Cinder: 1, t, true, on, y, yes in any case."""
    return str(value).strip().lower() in _TRUE_WORDS


def _number(compare: Callable[[float, float], bool]) -> Callable[[object, str], bool]:
    def test(capability: object, operand: str) -> bool:
        if not isinstance(capability, (int, float, str)):
            return False
        try:
            return compare(float(capability), float(operand))
        except ValueError:
            return False

    return test


def _text(compare: Callable[[str, str], bool]) -> Callable[[object, str], bool]:
    def test(capability: object, operand: str) -> bool:
        return isinstance(capability, str) and compare(capability, operand)

    return test


def _within(capability: object, operand: str) -> bool:
    return isinstance(capability, (str, Mapping)) and operand in capability


_TESTS: Final[dict[str, Callable[[object, str], bool]]] = {
    # "=" means at least.
    "=": _number(operator.ge),
    ">=": _number(operator.ge),
    "==": _number(operator.eq),
    "!=": _number(operator.ne),
    "<=": _number(operator.le),
    "<in>": _within,
    "<is>": lambda capability, operand: is_true(capability) is is_true(operand),
    "s==": _text(operator.eq),
    "s!=": lambda capability, operand: capability != operand,
    "s<": _text(operator.lt),
    "s<=": _text(operator.le),
    "s>": _text(operator.gt),
    "s>=": _text(operator.ge),
}


def matcher(wanted: str) -> Callable[[object], bool]:
    """Read the spec value `wanted` ("op operand") into a test of one capability's value.

    A list is satisfied by any of its members, None by nothing. Only the first word after an operator counts; without
    an operator the whole value must be equal, type included (`True` is not the text "True").
    """
    one = _matcher_of_one(wanted)
    return lambda found: any(map(one, found)) if isinstance(found, (list, tuple, set, frozenset)) else one(found)


def _matcher_of_one(wanted: str) -> Callable[[object], bool]:
    words = wanted.split()
    if words and words[0] == "<or>":
        choices = {part.strip() for part in wanted.split("<or>")[1:]} - {""}
        return lambda capability: isinstance(capability, str) and capability in choices
    if not words or words[0] not in _TESTS:
        return lambda capability: capability is not None and capability == wanted
    if len(words) == 1:
        return lambda capability: False
    test, operand = _TESTS[words[0]], words[1]
    return lambda capability: capability is not None and test(capability, operand)


@dataclass(frozen=True, slots=True)
class Requirement:
    """One spec that pools are asked for: the capability at `path` satisfies `wanted`, whose reading is `test`.

    `seen` remembers the test's answers by type and value: of a thousand pools most report the same few values.
    """

    key: str
    path: tuple[str, ...]
    wanted: str
    test: Callable[[object], bool] = field(compare=False, repr=False)
    seen: dict[tuple[type, object], bool] = field(default_factory=dict, compare=False, repr=False)

    @classmethod
    def read(cls, key: str, path: tuple[str, ...], wanted: str) -> Requirement:
        """The requirement that the spec `key` = `wanted` makes of the capability at `path`."""
        test = matcher(wanted)
        if path == ("storage_protocol",):
            return cls(key, path, wanted, lambda found: test(_spellings(found)))
        return cls(key, path, wanted, test)

    def met_by(self, pool: PoolState) -> bool:
        """Whether `pool` has that capability and it satisfies."""
        found = pool.capability(self.path[0]) if len(self.path) == 1 else self._found(pool)
        try:
            return self.seen[found.__class__, found]
        except KeyError:
            answer = self.seen[found.__class__, found] = self.test(found)
            return answer
        except TypeError:
            # A list cannot be remembered.
            return self.test(found)

    def why_not(self, pool: PoolState) -> str:
        """What a pool that fails has instead."""
        found = self._found(pool)
        if found is None:
            return f"the type asks for {self.key} {self.wanted!r}, and the pool reports no such capability"
        plain = isinstance(found, bool) and self.wanted in ("True", "False")
        hint = f"; write '<is> {self.wanted}'" if plain else ""
        return f"the type asks for {self.key} {self.wanted!r}, and the pool has {found!r}{hint}"

    def _found(self, pool: PoolState) -> object:
        found = pool.capability(self.path[0])
        for part in self.path[1:]:
            found = found.get(part) if isinstance(found, Mapping) else None
        return found


def _spellings(found: object) -> tuple[str, ...] | None:
    """All spellings of a protocol, or of several."""
    if not found:
        return None
    named = found if isinstance(found, (list, tuple)) else (found,)
    return tuple(spelling for name in named for spelling in protocol_variants(str(name)))


def requirements(specs: Mapping[str, str]) -> tuple[Requirement, ...]:
    """The specs that are asked of a pool's capabilities: unscoped or `capabilities:`; other scopes belong to others."""
    asked = []
    for key, wanted in specs.items():
        scope, *rest = key.split(":")
        if scope == "capabilities" and rest[:1] != ["label"]:
            # "capabilities" alone names nothing: no pool has it.
            asked.append(Requirement.read(key, tuple(rest or [""]), wanted))
        elif scope != "capabilities" and not rest:
            asked.append(Requirement.read(key, (scope,), wanted))
    return tuple(asked)


def label_terms(wishes: Mapping[str, object]) -> tuple[tuple[str, str], ...]:
    """(label key, selector) of the entries `label:<key>` of extra specs or hints."""
    names = ((key.removeprefix("capabilities:"), wanted) for key, wanted in wishes.items())
    return tuple((name.removeprefix("label:"), str(wanted)) for name, wanted in names if name.startswith("label:"))


def wants_thin(specs: Mapping[str, str]) -> bool:
    """Whether room is counted thin where the pool can: always, unless `provisioning:type` is thick."""
    return specs.get("provisioning:type") != "thick"


def zones(specs: Mapping[str, str]) -> frozenset[str]:
    """The zones that `RESKEY:availability_zones` (comma list) allows; empty when the type does not say."""
    listed = specs.get("RESKEY:availability_zones", "")
    return frozenset(part.strip() for part in listed.split(",")) - {""}


def size_limits_gib(specs: Mapping[str, str]) -> tuple[int | None, int | None]:
    """`provisioning:min_vol_size` and `provisioning:max_vol_size` in GiB, None where absent or not a whole number.

    The API refuses other sizes before anything is scheduled; no filter looks at them.
    """

    def limit(key: str) -> int | None:
        text = str(specs.get(key, "")).strip()
        return int(text) if text.isascii() and text.isdigit() else None

    return limit("provisioning:min_vol_size"), limit("provisioning:max_vol_size")
