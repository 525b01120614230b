"""Filters of lists: which query parameters filter what, by Cinder's rules.

Who is not an administrator may use the filters of `ALLOWED` (the defaults of Cinder's `resource_filters.json`):
before 3.31 others are dropped, from 3.31 on refused. An administrator's filters all pass; one that the list does not
know matches nothing, so the handler that finds a key outside `known` answers with an empty list. `key~` is open to
everybody, as in a Cinder whose filter file names it.
"""

from __future__ import annotations

from datetime import UTC, datetime

from serve_app.wire.faults import BadRequest
from serve_app.wire.literals import MOST_ITEMS
from serve_app.wire.route import Call

ALLOWED: dict[str, tuple[str, ...]] = {
    "volume": (
        "name",
        "status",
        "metadata",
        "bootable",
        "migration_status",
        "availability_zone",
        "group_id",
        "size",
        "created_at",
        "updated_at",
        "consumes_quota",
    ),
    "backup": ("name", "status", "volume_id"),
    "snapshot": ("name", "status", "volume_id", "metadata", "availability_zone", "consumes_quota"),
    "group": ("name",),
    "group_snapshot": ("name", "status", "group_id"),
    "attachment": ("volume_id", "status", "instance_id", "attach_status"),
    "message": ("resource_uuid", "resource_type", "event_id", "request_id", "message_level"),
    "pool": ("name", "volume_type"),
    "volume_type": ("is_public", "extra_specs"),
}
_PAGING = frozenset(("limit", "marker", "offset", "sort", "sort_key", "sort_dir", "all_tenants"))
_OPERATORS = frozenset(("gt", "gte", "eq", "neq", "lt", "lte"))
_LONGEST = 8192  # SQLite compares with patterns of at most 50,000 bytes
_REFUSES_FROM = 31
_LIKE_FROM = 34
_COUNT_FROM = 45
_COMPARES_TIME_FROM = 60


def filters_of(call: Call, resource: str, known: frozenset[str]) -> dict[str, str]:
    """The filters in force for a list of `resource` (a key of `ALLOWED`). `known` are the keys that the list can
    filter by; from 3.34 a known key may come with `~` behind it (contains). Raises BadRequest."""
    given = {key: value for key, value in call.query.items() if key not in _PAGING}
    if any(len(value) > _LONGEST for value in given.values()):
        raise BadRequest(f"Invalid input received: a filter is longer than {_LONGEST} characters")
    if call.minor >= _COUNT_FROM:
        given.pop("with_count", None)
    if not given:
        return given
    if call.minor >= _REFUSES_FROM and not all(key.isascii() for key in given):
        raise BadRequest("Filter keys can only contain ASCII characters.")
    if call.caller.is_admin and resource != "pool":
        return given
    allowed = ALLOWED.get(resource, ())
    if call.minor < _REFUSES_FROM:
        return {key: value for key, value in given.items() if key in allowed}
    wrong = [key for key in given if key not in allowed and not _is_like(call, key, known.intersection(allowed))]
    if wrong:
        raise BadRequest(f"Invalid filters {','.join(wrong)[:255]} are found in query options.")
    return given


def parse_time_filter(value: str) -> list[tuple[str, str]]:
    """`gt:2026-01-01T00:00:00,lt:…` as pairs (operator, wire time), one an operator: the last one given, as in Cinder.
    A time without a zone is UTC. Raises BadRequest."""
    found: dict[str, str] = {}
    units = value.split(",")
    if len(units) > MOST_ITEMS:
        raise BadRequest(f"Invalid input received: a filter has {len(units)} values; at most {MOST_ITEMS} are taken")
    for unit in units:
        operator, separator, text = unit.partition(":")
        if operator not in _OPERATORS:
            raise BadRequest(f"Invalid {operator[:255]} operator")
        try:
            moment = datetime.fromisoformat(text if separator else unit)
            moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
        except (ValueError, OverflowError):
            raise BadRequest(f"Invalid {text[:255]} value") from None
        found[operator] = moment.strftime("%Y-%m-%dT%H:%M:%S.%f")
    return list(found.items())


def compares_time(call: Call) -> bool:
    """Whether `created_at` and `updated_at` compare (from 3.60) rather than equal."""
    return call.minor >= _COMPARES_TIME_FROM


def _is_like(call: Call, key: str, allowed: frozenset[str]) -> bool:
    return call.minor >= _LIKE_FROM and key.endswith("~") and key[:-1] in allowed
