"""The reference model of attachments: what may be asked in which state.

Written from Cinder's states (and where docs/limitations.md differs, from there), not from the code under test.
"""

from __future__ import annotations

from collections.abc import Iterable

from cluster.errors import ConflictError, InvalidStateError, NotFoundError
from tests.simulation.model import Look, Refusal, Row

GOVERNED = ("available", "reserved", "attaching", "in-use", "detaching")
HOSTS = ("n0", "n1", "n2")
_HELD = ("attaching", "attached", "error_detaching")


def standing(attachments: Iterable[Row]) -> tuple[str, str]:
    """What a volume with these attachments says: its status and its attach status."""
    there = {row["attach_status"] for row in attachments}
    if there & {"attached", "error_detaching"}:
        return "in-use", "attached"
    for status in ("attaching", "reserved"):
        if status in there:
            return status, status
    return "available", "detached"


def unmade(look: Look, row: Row) -> bool:
    """Whether there is no volume yet, or no more."""
    return row["host"] is None or look.live.get(row["id"]) in ("volume.create", "volume.delete")


def create(look: Look, volume_id: str, instance_id: str | None) -> Refusal:
    """POST /attachments."""
    row = look.volumes.get(volume_id)
    if row is None:
        return NotFoundError
    status = row["status"]
    if unmade(look, row) or "error" in status:
        return InvalidStateError
    if status == "available" or (status == "in-use" and row["multiattach"]):
        return None
    of_same = instance_id is not None and any(
        one["instance_id"] == instance_id for one in look.attachments_of(volume_id)
    )
    return None if of_same and status in ("in-use", "reserved") else InvalidStateError


def connect(look: Look, attachment_id: str) -> Refusal:
    """PUT /attachments/{id}."""
    one = look.attachments.get(attachment_id)
    if one is None:
        return NotFoundError
    row = look.volumes[one["volume_id"]]
    if "error" in row["status"]:
        return ConflictError
    if unmade(look, row):
        return InvalidStateError
    others = [other for other in look.attachments_of(row["id"]) if other["id"] != attachment_id]
    taken = not row["multiattach"] and any(other["attach_status"] in _HELD for other in others)
    return ConflictError if taken else None


def complete(look: Look, attachment_id: str) -> Refusal:
    """os-complete."""
    one = look.attachments.get(attachment_id)
    if one is None:
        return NotFoundError
    live = look.live.get(attachment_id)
    moving = live == "connection.close" or (live is not None and one["connection_info"] is None)
    wrong = unmade(look, look.volumes[one["volume_id"]]) or one["attach_status"] == "error_attaching" or moving
    return InvalidStateError if wrong else None


def end(look: Look, attachment_id: str) -> Refusal:
    """DELETE /attachments/{id}."""
    return None if attachment_id in look.attachments else NotFoundError


def older(look: Look, action: str, volume_id: str, instance_id: str, mode: str) -> Refusal:
    """One of the older actions, as `os-<action>`."""
    row = look.volumes.get(volume_id)
    if row is None:
        return NotFoundError
    there = look.attachments_of(volume_id)
    status, refused = row["status"], False
    if action in ("initialize", "attach", "detach"):
        refused = status == "maintenance"
    if action in ("reserve", "initialize", "attach"):
        refused = refused or unmade(look, row)
    if action == "reserve":
        refused = refused or not (status == "available" or (status == "in-use" and row["multiattach"]))
    elif action == "begin_detaching":
        refused = (status, row["attach_status"]) != ("in-use", "attached")
    elif action == "attach":
        same = any(one["instance_id"] == instance_id for one in there)
        held = any(one["attach_status"] in (*_HELD, "reserved") for one in there)
        other_mode = status == "attaching" and row["attached_mode"] not in (None, mode)
        refused = refused or status not in GOVERNED or other_mode or (not same and held and not row["multiattach"])
    elif action in ("detach", "force_detach"):
        refused = refused or len(there) > 1
    return InvalidStateError if refused else None
