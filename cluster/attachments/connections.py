"""Connections as the intents open and close them: the row, and the operation that makes it true.

`connection.open` makes or repeats an export, `connection.close` ends it; both are operations on the connection's id, so
that one at a time works on it. Every function runs inside `store.write`, with the volume's row locked.
"""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Any, Final

from sqlalchemy import Connection, insert, select, update

from cluster.attachments.queries import ATTACHMENT, CONNECTION
from cluster.caller import Caller
from cluster.errors import InvalidInputError
from cluster.journal.intents import live_operation, open_operation
from cluster.journal.outcome import Work
from cluster.outside import Outside
from drivers.vocabulary import AccessMode

OPEN: Final = "connection.open"
CLOSE: Final = "connection.close"
_NAMES: Final = ("host", "initiator", "nqn", "ip")
_LONGEST_NAME: Final = 200


class How(StrEnum):
    """Why a connection is opened: for the first time, once more as it is, or anew for another connector."""

    FIRST = "first"
    AGAIN = "again"
    ANEW = "anew"


def consumer_of(connector: Mapping[str, Any]) -> str:
    """Who the consumer of the older flow is, from what its connector tells. Raises InvalidInputError."""
    for name in _NAMES:
        value = connector.get(name)
        if isinstance(value, str) and value:
            text = value if len(value) <= _LONGEST_NAME else hashlib.sha256(value.encode()).hexdigest()
            return f"{name}:{text}"
    raise InvalidInputError(f"Invalid input received: the connector has none of {', '.join(_NAMES)}.")


def connection_of(volume_id: str, consumer: str) -> str:
    """The id of the connection that a consumer of the older flow has to the volume."""
    return str(uuid.uuid5(uuid.UUID(volume_id), consumer))


def access_mode(connector: Mapping[str, Any]) -> str | None:
    """The mode that the connector asks for, None when it leaves that open. Raises InvalidInputError."""
    mode = connector.get("mode")
    if mode is None or mode in ("", "null"):
        return None
    if mode not in tuple(AccessMode):
        raise InvalidInputError(f"Invalid input received: the connector's mode {mode!r} is neither rw nor ro.")
    return str(mode)


def is_there(db: Connection, connection_id: str) -> bool:
    """Whether the connection has a row."""
    return db.execute(select(CONNECTION.c.id).where(CONNECTION.c.id == connection_id)).first() is not None


def unattached(db: Connection, volume_id: str) -> list[str]:
    """The volume's connections without an attachment of their own: those of the older flow."""
    return list(
        db.scalars(
            select(CONNECTION.c.id)
            .where(
                CONNECTION.c.volume_id == volume_id,
                CONNECTION.c.id.not_in(select(ATTACHMENT.c.id).where(ATTACHMENT.c.volume_id == volume_id)),
            )
            .order_by(CONNECTION.c.id)
        )
    )


def open_connection(
    db: Connection,
    outside: Outside,
    caller: Caller,
    *,
    connection_id: str,
    volume_id: str,
    consumer: str,
    connector: Mapping[str, Any],
    mode: str,
) -> Work:
    """Write down that the consumer is to reach the volume, and open the operation that sees to it.

    A repeat while that is under way gives its operation; anything else under way is to be waited for first.
    """
    row = db.execute(select(CONNECTION).where(CONNECTION.c.id == connection_id)).first()
    same = row is not None and row.connector == dict(connector) and row.mode == mode
    live = live_operation(db, connection_id)
    if live is not None:
        return Work((live.id,), again=not (same and live.kind == OPEN))
    if row is None:
        how = How.FIRST
        values = {"id": connection_id, "volume_id": volume_id, "consumer": consumer, "connector": dict(connector)}
        values |= {"mode": mode, "secret": outside.new_secret(), "created_at": outside.now()}
        db.execute(insert(CONNECTION).values(**values))
    elif same:
        how = How.FIRST if row.info is None else How.AGAIN
    else:
        how = How.ANEW
        changes = {"connector": dict(connector), "mode": mode, "info": None}
        db.execute(update(CONNECTION).where(CONNECTION.c.id == connection_id).values(**changes))
    args = {"volume_id": volume_id, "how": how.value}
    return Work((open_operation(db, outside, caller, OPEN, connection_id, args),))


def close_connections(
    db: Connection,
    outside: Outside,
    caller: Caller,
    volume_id: str,
    connection_ids: Sequence[str],
    attachment_id: str | None = None,
    *,
    settles: bool,
) -> Work:
    """Open the operations that end the connections; the attachment, if one is named, ends with the last of them, and
    with `settles` the volume's status follows then.

    Operations of that kind that are under way are waited for as if they were ours; if any other is, nothing is opened
    and that is to be waited for first.
    """
    live = {each: live_operation(db, each) for each in connection_ids}
    found = [operation for operation in live.values() if operation is not None]
    opening = tuple(operation.id for operation in found if operation.kind != CLOSE)
    if opening:
        return Work(opening, again=True)
    args: dict[str, Any] = {"volume_id": volume_id, "attachment_id": attachment_id}
    args |= {"together": list(connection_ids), "settles": settles}
    return Work(
        tuple(
            operation.id if operation is not None else open_operation(db, outside, caller, CLOSE, each, args)
            for each, operation in live.items()
        ),
        # What another request opened does not know of this attachment.
        again=any(operation.args.get("attachment_id") != attachment_id for operation in found),
    )
