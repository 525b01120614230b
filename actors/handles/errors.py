"""What can go wrong with a handle.

    HandleError
    ├── RefusedError        what was asked does not fit: a wrong value, or a state in which it cannot be done
    │   ├── ConflictError       something of that name is there, or somebody else is at it
    │   └── OverQuotaError      the project's quota does not allow it
    ├── NotAllowedError     not logged in, or without the role for it
    ├── MissingError        there is no such volume, snapshot, type …
    ├── FailedError         it was accepted and then failed; the message says why
    ├── NotInTimeError      not done within the time given; it may still be done later
    └── UnreachableError    the service did not answer; look before you ask again, it may have been done

A message says what happened, to which resource, and what to do. All survive pickling (a task's errors are pickled).
"""

from __future__ import annotations


class HandleError(Exception):
    """Something asked of a handle was not done."""


class RefusedError(HandleError):
    """What was asked does not fit."""


class ConflictError(RefusedError):
    """Something else is in the way."""


class OverQuotaError(RefusedError):
    """The project's quota does not allow it."""


class NotAllowedError(HandleError):
    """Not logged in, or without the role for it."""


class MissingError(HandleError):
    """There is no such thing."""


class FailedError(HandleError):
    """It was accepted and then failed."""


class NotInTimeError(HandleError, TimeoutError):
    """Not done within the time given."""


class UnreachableError(HandleError):
    """The service did not answer."""


_BY_STATUS: dict[int, type[HandleError]] = {
    401: NotAllowedError,
    403: NotAllowedError,
    404: MissingError,
    409: ConflictError,
    413: OverQuotaError,
}


def error_of(status: int, message: str) -> HandleError:
    """The error for an answer of the API with this HTTP status."""
    if status >= 500:
        return UnreachableError(message)
    return _BY_STATUS.get(status, RefusedError)(message)
