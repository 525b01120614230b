"""Query parameters of the embedded Keystone."""

from __future__ import annotations

from starlette.datastructures import QueryParams


def boolean(query: QueryParams, name: str) -> bool | None:
    """A flag as Keystone reads it: absent is None, `0`, `false`, `no`, `off` are false, all else (empty too) true."""
    value = query.get(name)
    return None if value is None else value.lower() not in ("0", "false", "no", "off")
