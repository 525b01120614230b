"""Snapshots as the wire shows them: exactly the keys of each microversion (json_shapes §2, snapshot).

`detail` is asked once a request and gives the function that is then called for every row.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from cluster.snapshots.queries import SnapshotRow
from serve_app.identity.policy import allows
from serve_app.wire.route import Call

View = Callable[[SnapshotRow], dict[str, Any]]


def summary(row: SnapshotRow) -> dict[str, Any]:
    """The short form."""
    return {
        "id": row["id"],
        "created_at": row["created_at"],
        "updated_at": row["updated_at"],
        "name": row["name"],
        "description": row["description"],
        "volume_id": row["volume_id"],
        "status": row["status"],
        "size": row["size_gib"],
        "metadata": row["user_metadata"],
    }


def detail(call: Call, *, extended: bool = True) -> View:
    """The long form. `extended` False leaves out what replies to create and update do not have."""
    minor = call.minor
    shows_more = extended and allows("volume_extension:extended_snapshot_attributes", call.caller)

    def view(row: SnapshotRow) -> dict[str, Any]:
        shown = summary(row)
        if shows_more:
            shown["os-extended-snapshot-attributes:project_id"] = row["project_id"]
            shown["os-extended-snapshot-attributes:progress"] = row["progress"]
        if minor >= 14:
            shown["group_snapshot_id"] = row["group_snapshot_id"]
        if minor >= 41:
            shown["user_id"] = row["user_id"]
        if minor >= 65:
            shown["consumes_quota"] = row["consumes_quota"]
        return shown

    return view
