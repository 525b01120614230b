"""Writing user messages: the reason of a failure, next to the transaction that records the failure."""

from __future__ import annotations

from sqlalchemy import Connection, delete, insert
from sqlmodel import col

from cluster.caller import Caller
from cluster.errors import NotFoundError
from cluster.messages.catalogue import Action, Detail, Level, ResourceType, event_id
from cluster.messages.records import Message
from cluster.outside import Outside, stamp

# Width of the column. Cinder stores no text (it composes "action:detail" at a read) and the wire has no limit.
MAX_TEXT = 1024


def tell(
    db: Connection,
    outside: Outside,
    life_seconds: float,
    *,
    project_id: str,
    request_id: str,
    action: Action,
    detail: Detail,
    resource_type: ResourceType,
    resource_id: str | None,
    reason: str | None = None,
    level: Level = Level.ERROR,
) -> str:
    """Leave the project a message and return its id.

    The text is Cinder's `action:detail`, then `reason`, a sentence for the user (why each host was refused, what to
    do), cut at MAX_TEXT characters. Whoever calls keeps secrets and backend internals out of `reason`.
    """
    message_id = outside.new_id()
    now = outside.seconds()
    text = f"{action.text}:{detail.text}"
    if reason:
        text = f"{text} {reason}"
    db.execute(
        insert(Message).values(
            id=message_id,
            project_id=project_id,
            request_id=request_id,
            resource_type=resource_type.value,
            resource_uuid=resource_id,
            action_id=action.id,
            detail_id=detail.id,
            event_id=event_id(resource_type, action, detail),
            user_message=text if len(text) <= MAX_TEXT else f"{text[: MAX_TEXT - 1]}…",
            message_level=level.value,
            created_at=stamp(now),
            guaranteed_until=stamp(now + life_seconds),
            expires_at=now + life_seconds,
        )
    )
    return message_id


def remove(db: Connection, caller: Caller, message_id: str) -> None:
    """Delete one message. Raises NotFoundError when there is none, or it is another project's and the caller no
    administrator."""
    statement = delete(Message).where(col(Message.id) == message_id)
    if not caller.is_admin:
        statement = statement.where(col(Message.project_id) == caller.project_id)
    if db.execute(statement).rowcount == 0:
        raise NotFoundError.of("Message", message_id)


def prune(db: Connection, now: float) -> int:
    """Delete the messages whose life is over at `now` (seconds since the epoch); return how many."""
    return db.execute(delete(Message).where(col(Message.expires_at) < now)).rowcount
