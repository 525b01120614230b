"""Attachments as the wire shows them (json_shapes §2: attachment, and a volume's `attachments`)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from cluster.attachments.queries import AttachmentRow
from cluster.caller import Caller
from cluster.volumes.records import AttachStatus

# What Cinder calls a mode that nobody has chosen yet.
_NO_MODE: Final = "null"


def summary(row: AttachmentRow) -> dict[str, Any]:
    """The short form: lists, and what is left after a delete."""
    return {
        "id": row["id"],
        "status": row["attach_status"],
        "instance": row["instance_id"],
        "volume_id": row["volume_id"],
    }


def detail(row: AttachmentRow) -> dict[str, Any]:
    """The long form. It holds what a consumer needs to connect, secrets included."""
    return summary(row) | {
        "attached_at": row["attached_at"] or "",
        "detached_at": "",
        "attach_mode": row["attach_mode"] or _NO_MODE,
        "connection_info": row["connection_info"] or {},
    }


def of_volumes(caller: Caller, rows: Mapping[str, Iterable[AttachmentRow]]) -> dict[str, list[dict[str, Any]]]:
    """By volume id, what a volume shows under `attachments`: those that are attached. The host's name is for
    administrators and services."""
    sees_hosts = caller.is_admin or caller.is_service or "service" in caller.roles

    def shown(row: AttachmentRow) -> dict[str, Any]:
        return {
            "id": row["volume_id"],
            "attachment_id": row["id"],
            "volume_id": row["volume_id"],
            "server_id": row["instance_id"],
            "host_name": row["attached_host"] if sees_hosts else None,
            "device": row["mountpoint"],
            "attached_at": row["attached_at"],
        }

    return {
        volume_id: [shown(row) for row in attached if row["attach_status"] == AttachStatus.ATTACHED]
        for volume_id, attached in rows.items()
    }
