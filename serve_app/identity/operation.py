"""How an operation of the embedded Keystone is declared, and what its handler gets."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

from pydantic import BaseModel
from starlette.datastructures import QueryParams

from serve_app.identity.embedded import EmbeddedAuthenticator, Session
from serve_app.identity.passwords import Passwords
from serve_app.wire.faults import Fault
from serve_app.wire.route import Reply, Room

TITLES = {
    400: "Bad Request",
    401: "Unauthorized",
    403: "Forbidden",
    404: "Not Found",
    409: "Conflict",
    413: "Request Entity Too Large",
    415: "Unsupported Media Type",
    500: "Internal Server Error",
    503: "Service Unavailable",
}


class Access(Enum):
    """Who may call: anybody, whoever has a token, administrators."""

    ANYONE = "anyone"
    TOKEN = "token"  # noqa: S105 - not a password
    ADMIN = "admin"


class IdentityFault(Fault):
    """A refusal in Keystone's envelope."""

    def __init__(self, status: int, message: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(message, headers)
        self.status = status  # type: ignore[misc] # one class for all statuses: Keystone's envelope has one key

    def body(self) -> dict[str, object]:
        return {"error": {"code": self.status, "message": self.message, "title": TITLES.get(self.status, "Error")}}


@dataclass(frozen=True)
class IdentityCall:
    """One request to the embedded Keystone. `url` is `{base}/identity/v3`; `session` is there unless ANYONE may;
    `from_cluster` when it did not come over HTTP but from a program of the Ray cluster."""

    room: Room
    authenticator: EmbeddedAuthenticator
    passwords: Passwords
    headers: Mapping[str, str]
    path: Mapping[str, str]
    query: QueryParams
    url: str
    maybe_session: Session | None
    from_cluster: bool = False
    body: Any = None

    @property
    def session(self) -> Session:
        """The caller's token."""
        if self.maybe_session is None:
            raise unauthorized()
        return self.maybe_session

    @property
    def is_admin(self) -> bool:
        """Whether the caller is an administrator."""
        return self.maybe_session is not None and "admin" in self.maybe_session.standing.roles


@dataclass(frozen=True)
class Operation:
    """A method and a path below `/identity/v3`."""

    method: str
    path: str
    handler: Callable[[IdentityCall], Awaitable[Reply]]
    access: Access = Access.ADMIN
    body: type[BaseModel] | None = None


def unauthorized() -> IdentityFault:
    """401, without a word about why."""
    return IdentityFault(401, "The request you have made requires authentication.")


def forbidden(what: str) -> IdentityFault:
    """403 for the operation `identity:{what}`."""
    return IdentityFault(403, f"You are not authorized to perform the requested action: identity:{what}.")


def not_found(kind: str, name: str) -> IdentityFault:
    """404."""
    return IdentityFault(404, f"Could not find {kind}: {name[:255]}.")
