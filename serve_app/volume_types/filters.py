"""What `GET /types` may be filtered by, read from the query."""

from __future__ import annotations

from dataclasses import dataclass, field

from serve_app.volume_types.views import VISIBLE_SPECS, sees_all_specs
from serve_app.wire.faults import BadRequest
from serve_app.wire.filters import filters_of
from serve_app.wire.literals import read_literal
from serve_app.wire.route import Call

KNOWN = frozenset(("is_public", "extra_specs", "name", "description", "id"))
_SPECS_FROM = 52
_TRUE = ("1", "t", "true", "on", "y", "yes")
_FALSE = ("0", "f", "false", "off", "n", "no")


@dataclass(frozen=True)
class Wanted:
    """The types wanted: `is_public` None is both kinds; `specs` must be there with these values; `equal` by column."""

    is_public: bool | None = True
    specs: dict[str, str] = field(default_factory=dict)
    equal: dict[str, str] = field(default_factory=dict)


def wanted(call: Call) -> Wanted | None:
    """What the query asks for; None when nothing can match. Raises BadRequest.

    A filter by a spec that the caller may not see matches nothing: to drop it would show too much.
    """
    is_admin = call.caller.is_admin
    given = filters_of(call, "volume_type", KNOWN) if is_admin or call.minor >= _SPECS_FROM else {}
    if given.keys() - KNOWN:
        return None
    specs = _specs(given["extra_specs"]) if "extra_specs" in given else {}
    if not sees_all_specs(call.caller) and specs.keys() - set(VISIBLE_SPECS):
        return None
    return Wanted(
        is_public=_is_public(given.get("is_public")) if is_admin else True,
        specs=specs,
        equal={key: given[key] for key in ("name", "description", "id") if key in given},
    )


def _is_public(text: str | None) -> bool | None:
    word = "true" if text is None else text.strip().lower()
    if word == "none":
        return None
    if word not in _TRUE + _FALSE:
        raise BadRequest(f"Invalid is_public filter [{str(text)[:255]}]")
    return word in _TRUE


def _specs(text: str) -> dict[str, str]:
    """Clients write the map as Python does (`{'multiattach': '<is> True'}`); JSON of strings reads alike."""
    found = read_literal(text.strip())
    if not isinstance(found, dict):
        raise BadRequest(f"Invalid extra_specs filter [{text[:255]}]: write {{'key': 'value'}}")
    return found
