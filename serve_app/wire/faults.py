"""Refusals as Cinder puts them on the wire: `{"badRequest": {"code": 400, "message": "…"}}`.

    Fault
    ├── BadRequest 400 · Unauthorized 401 · Forbidden 403 · NotFound 404 · MethodNotAllowed 405 · NotAcceptable 406
    ├── Conflict 409 · PreconditionFailed 412 · OverLimit 413 · UnsupportedMediaType 415
    └── NoSuchRoute 404 · Internal 500 · Unavailable 503

`RequestError`s of `cluster.errors` become faults here and nowhere else. Sources: Cinder's fault wrapper (key by
status; everything unnamed is `computeFault`).
"""

from __future__ import annotations

from typing import ClassVar

import orjson

from cluster import errors

KEYS = {
    400: "badRequest",
    401: "unauthorized",
    403: "forbidden",
    404: "itemNotFound",
    405: "badMethod",
    409: "conflictingRequest",
    413: "overLimit",
    415: "badMediaType",
    501: "notImplemented",
    503: "serviceUnavailable",
}


class Fault(Exception):  # noqa: N818 - every route says `raise NotFound(…)`
    """An answer other than success."""

    status: ClassVar[int] = 500

    def __init__(self, message: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.headers = headers or {}

    def body(self) -> dict[str, object]:
        """The envelope."""
        return envelope(self.status, self.message)

    def content(self) -> tuple[bytes, str]:
        """The body's bytes and their content type."""
        return orjson.dumps(self.body()), "application/json"


class BadRequest(Fault):
    """400."""

    status = 400


class Unauthorized(Fault):
    """401, in the words of keystonemiddleware, which answers before Cinder does."""

    status = 401

    def __init__(self, uri: str = "", message: str = "The request you have made requires authentication.") -> None:
        super().__init__(message, {"WWW-Authenticate": f'Keystone uri="{uri}"'})

    def body(self) -> dict[str, object]:
        return {"error": {"code": 401, "title": "Unauthorized", "message": self.message}}


class Forbidden(Fault):
    """403."""

    status = 403


class NotFound(Fault):
    """404."""

    status = 404


class MethodNotAllowed(Fault):
    """405."""

    status = 405


class NotAcceptable(Fault):
    """406: the microversion is out of range."""

    status = 406


class Conflict(Fault):
    """409."""

    status = 409


class PreconditionFailed(Fault):
    """412: If-Match does not match; its body is empty."""

    status = 412

    def content(self) -> tuple[bytes, str]:
        return b"", "text/html; charset=UTF-8"


class OverLimit(Fault):
    """413: quota or body size."""

    status = 413

    def body(self) -> dict[str, object]:
        inner: dict[str, object] = {"code": 413, "message": self.message}
        if "Retry-After" in self.headers:
            inner["retryAfter"] = self.headers["Retry-After"]
        return {KEYS[413]: inner}


class UnsupportedMediaType(Fault):
    """415."""

    status = 415


class NoSuchRoute(Fault):
    """404 for a URL and method that nothing serves: webob's own JSON, not the envelope."""

    status = 404

    def __init__(self) -> None:
        super().__init__("The resource could not be found.<br /><br />\n\n\n")

    def body(self) -> dict[str, object]:
        return {"message": self.message, "code": "404 Not Found", "title": "Not Found"}


class Internal(Fault):
    """500: the cause is in the log under the request id, not in the answer."""

    status = 500

    def __init__(self) -> None:
        super().__init__("The server has either erred or is incapable of performing the requested operation.")


class Unavailable(Fault):
    """503."""

    status = 503


_BY_ERROR: tuple[tuple[type[errors.RequestError], type[Fault]], ...] = (
    (errors.NotFoundError, NotFound),
    (errors.InvalidInputError, BadRequest),
    (errors.InvalidStateError, BadRequest),
    (errors.ConflictError, Conflict),
    (errors.OverQuotaError, OverLimit),
    (errors.ForbiddenError, Forbidden),
    (errors.UnavailableError, Unavailable),
)


def envelope(status: int, message: str) -> dict[str, object]:
    """The body of a fault."""
    return {KEYS.get(status, "computeFault"): {"code": status, "message": message}}


def fault_of(error: errors.RequestError) -> Fault:
    """The fault that a refused request becomes. Quota refusals carry `Retry-After: 0`, as Cinder's do."""
    kind = next((fault for cause, fault in _BY_ERROR if isinstance(error, cause)), BadRequest)
    return kind(str(error), {"Retry-After": "0"} if kind is OverLimit else None)
