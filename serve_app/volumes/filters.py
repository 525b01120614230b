"""How the query string of a volume or snapshot list is read into filters.

Values are read as Cinder reads them: a Python literal where the text is one (a list, a mapping, None, quoted text),
else the text as it stands. Filters that came with a microversion are dropped below it, up to 3.30; from 3.31 on
Cinder lets all of its configured filters pass whatever the microversion, and so does this.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from cluster.volumes.filters import METADATA, Times
from serve_app.wire.faults import BadRequest
from serve_app.wire.filters import ALLOWED, filters_of, parse_time_filter
from serve_app.wire.literals import read_literal
from serve_app.wire.route import Call

_TRUE: Final = frozenset({"1", "t", "true", "on", "y", "yes"})
_FALSE: Final = frozenset({"0", "f", "false", "off", "n", "no"})
_BOOLEANS: Final = frozenset({"bootable", "multiattach", "encrypted", "shared_targets"})
_TIMES: Final = frozenset({"created_at", "updated_at"})
_TEXTS: Final = frozenset({"name", "display_name", "description", "display_description"})
_STRICT_FROM: Final = 2
_CONFIGURED_FROM: Final = 31
_VOLUME_SINCE: Final = {
    "glance_metadata": 4,
    "group_id": 10,
    "created_at": 60,
    "updated_at": 60,
    "consumes_quota": 65,
}
_SNAPSHOT_SINCE: Final = {"metadata": 22, "consumes_quota": 65}


def volume_filters(call: Call) -> dict[str, object]:
    """The filters of a volume list. Raises BadRequest."""
    return _read(call, _given(call, "volume", _VOLUME_SINCE))


def snapshot_filters(call: Call) -> dict[str, object]:
    """The filters of a snapshot list. Raises BadRequest."""
    return _read(call, _given(call, "snapshot", _SNAPSHOT_SINCE))


def _given(call: Call, resource: str, since: Mapping[str, int]) -> dict[str, str]:
    given = filters_of(call, resource, frozenset(ALLOWED[resource]))
    if call.minor >= _CONFIGURED_FROM:
        return given
    return {key: value for key, value in given.items() if since.get(key, 0) <= call.minor}


def _read(call: Call, given: Mapping[str, str]) -> dict[str, object]:
    return {key: _value(call, key, text) for key, text in given.items()}


def _value(call: Call, key: str, text: str) -> object:
    if key in _TEXTS or key.endswith("~"):
        return text
    if key == "consumes_quota":
        return _boolean(key, text)
    if key in _BOOLEANS:
        return _boolean(key, text) if call.minor >= _STRICT_FROM else _lax_boolean(text)
    if key in _TIMES:
        return Times(tuple(parse_time_filter(text)))
    return read_literal(text, or_json=key in METADATA)


def _boolean(key: str, text: str) -> bool:
    word = text.strip().lower()
    if word not in _TRUE and word not in _FALSE:
        raise BadRequest(f"Invalid input received: '{key} = {text[:255]}'")
    return word in _TRUE


def _lax_boolean(text: str) -> bool:
    return bool(text) and text not in ("False", "false", "FALSE")
