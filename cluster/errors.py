"""Why a request is refused, before anything was changed. `serve_app` gives each its status.

RequestError
├── NotFoundError      no such resource, or not the caller's              (404)
├── InvalidInputError  a value that can never be right                    (400)
├── InvalidStateError  the resource is not in a state that allows this    (400)
├── ConflictError      something of that name or kind exists already      (409)
├── OverQuotaError     the project has no quota left for this             (413)
├── ForbiddenError     the caller may not do this to this resource        (403)
└── UnavailableError   a part of the service that this needs is not there (503)
"""

from __future__ import annotations


class RequestError(Exception):
    """The request was refused."""

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message or (type(self).__doc__ or "").strip())


class NotFoundError(RequestError):
    """The resource could not be found."""

    @classmethod
    def of(cls, kind: str, name: str) -> NotFoundError:
        """The refusal in Cinder's words, for example `Volume 1234 could not be found.`"""
        return cls(f"{kind} {name} could not be found.")


class InvalidInputError(RequestError):
    """Invalid input received."""


class InvalidStateError(RequestError):
    """The resource is not in a state that allows this."""


class ConflictError(RequestError):
    """The resource exists already."""


class OverQuotaError(RequestError):
    """Quota exceeded."""


class ForbiddenError(RequestError):
    """Policy doesn't allow this to be performed."""


class UnavailableError(RequestError):
    """A part of the service that this needs is not there."""
