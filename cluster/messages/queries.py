"""Reading user messages. A project sees its own; an administrator sees all (as in Cinder, without asking for it)."""

from __future__ import annotations

from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, select
from sqlmodel import SQLModel, col

from cluster.caller import Caller
from cluster.errors import NotFoundError
from cluster.messages.records import Message

_TABLE = SQLModel.metadata.tables[str(Message.__tablename__)]
COLUMNS: dict[str, ColumnElement[Any]] = {
    name: _TABLE.c[name]
    for name in (
        "id",
        "project_id",
        "request_id",
        "resource_type",
        "resource_uuid",
        "action_id",
        "detail_id",
        "event_id",
        "message_level",
        "created_at",
    )
}


def listing(caller: Caller) -> Select[Any]:
    """The messages to list, unordered. (Cinder lets every project list all projects' messages; that is not copied.)"""
    statement = select(Message)
    return statement if caller.is_admin else statement.where(col(Message.project_id) == caller.project_id)


def fetch(db: Connection, caller: Caller, message_id: str) -> dict[str, Any]:
    """One message. Raises NotFoundError when there is none that the caller may see."""
    row = db.execute(listing(caller).where(col(Message.id) == message_id)).first()
    if row is None:
        raise NotFoundError.of("Message", message_id)
    return row._asdict()
