"""User messages as the wire shows them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from serve_app.wire.links import links
from serve_app.wire.route import Call

_KEYS = ("id", "event_id", "user_message", "message_level", "created_at", "guaranteed_until", "request_id")


def message(call: Call, row: Mapping[str, Any]) -> dict[str, Any]:
    """One message; what it is about only where that is known."""
    shown = {key: row[key] for key in _KEYS}
    shown["links"] = links(call, "messages", row["id"])
    return shown | {key: row[key] for key in ("resource_type", "resource_uuid") if row[key]}
