"""A request that waits until an export has acted, and what is said when that fails or takes too long.

A backend that does not answer leaves the operation in the journal: it goes on, and the attachment shows how it ended.
The answer is Cinder's for both: 500 with the sentence of the action.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import structlog
from sqlalchemy import Connection

from cluster.errors import InvalidInputError
from cluster.journal.outcome import Work, carry_out
from cluster.journal.records import OperationState
from drivers.vocabulary import UnsupportedError
from serve_app.wire.faults import Fault
from serve_app.wire.route import Call

T = TypeVar("T")
_log = structlog.get_logger("pumice.attachments")
_UNSUPPORTED = f"{UnsupportedError.__name__}: "


async def done(call: Call, intent: Callable[[Connection], T], work_of: Callable[[T], Work | None], failure: str) -> T:
    """Run `intent` and wait for the work it opened; give back what it returned.

    Raises what `intent` raises; InvalidInputError when no export serves the connector; Fault (500, `failure`) when the
    backend refused, or has not answered in time.
    """
    room = call.room
    result, outcome = await carry_out(room.store, room.outside, intent, work_of, room.ring)
    if outcome.state is OperationState.DONE:
        return result
    if outcome.state is OperationState.LIVE:
        _log.warning("backend has not answered yet", request_id=call.caller.request_id)
        raise Fault(f"{failure} The backend has not answered yet; the operation goes on.")
    error = outcome.error or ""
    if error.startswith(_UNSUPPORTED):
        raise InvalidInputError(f"Invalid input received: {error.removeprefix(_UNSUPPORTED)}")
    _log.warning("backend refused", request_id=call.caller.request_id, reason=error)
    raise Fault(failure)
