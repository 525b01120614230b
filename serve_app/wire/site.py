"""The outermost ASGI application: guard, request id, choice by first path segment, answers to everything raised, and
the log line. What a path below `/v3` means is `dispatch`'s business."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping, Sequence

import structlog
from sqlalchemy.exc import IntegrityError

from cluster.errors import RequestError
from cluster.store.seam import StoreUnavailableError
from serve_app.wire.body import ClientGoneError
from serve_app.wire.exchange import Answerer, App, Exchange, Receive, Scope, Send, Wording, content_of, respond
from serve_app.wire.faults import Conflict, Fault, Forbidden, Internal, NoSuchRoute, Unavailable, fault_of
from serve_app.wire.guard import Guard
from serve_app.wire.route import Room

Close = Callable[[], Awaitable[None]]
_log = structlog.get_logger("pumice.api")
_RACES_POSTGRESQL = ("23503", "23505")  # foreign_key_violation, unique_violation
_RACES_SQLITE = ("SQLITE_CONSTRAINT_FOREIGNKEY", "SQLITE_CONSTRAINT_UNIQUE", "SQLITE_CONSTRAINT_PRIMARYKEY")


class Site:
    """Serves `answerers` by first path segment (`v3`, `identity`, "" for `/`) and whole ASGI applications in `apps`;
    at the end it calls each of `closing`."""

    def __init__(
        self,
        room: Room,
        answerers: Mapping[str, Answerer],
        apps: Mapping[str, App] | None = None,
        guard: Guard | None = None,
        closing: Sequence[Close] = (),
    ) -> None:
        self._room = room
        self._answerers = dict(answerers)
        self._apps = dict(apps or {})
        self._closing = tuple(closing)
        self._guard = guard or Guard(room.settings)
        self._public_url = room.settings.public_url
        self._endpoint = room.settings.endpoint

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._lifespan(receive, send)
            return
        refusal = self._guard.refusal(scope)
        app = self._apps.get(_first(scope["path"])) if self._apps else None
        if app is not None and refusal is None:
            await app(scope, receive, send)
        elif scope["type"] == "http":
            await self._http(scope, receive, send, refusal)
        else:
            await send({"type": "websocket.close", "code": 1008})

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        while (message := await receive())["type"] != "lifespan.shutdown":
            await send({"type": f"{message['type']}.complete"})
        for close in self._closing:
            try:
                await close()
            except Exception as error:  # it ends anyway, and so must the others
                _log.warning("not closed", exc_info=error)
        await send({"type": "lifespan.shutdown.complete"})

    async def _http(self, scope: Scope, receive: Receive, send: Send, refusal: str | None) -> None:
        started = time.perf_counter()
        exchange = Exchange(scope, receive, f"req-{self._room.outside.new_id()}", self._public_url, self._endpoint)
        # On every answer: by it the ingress tells a 404 of ours from one of a Serve that has no application yet.
        exchange.out["x-openstack-request-id"] = exchange.request_id
        answerer = self._answerers.get(_first(exchange.path))
        try:
            if refusal is not None:
                raise Forbidden(refusal)
            exchange.check_path()
            if answerer is None:
                raise NoSuchRoute
            reply = await answerer.answer(exchange)
            content = content_of(reply)
        except ClientGoneError:
            _log_request(exchange, 499, started)
            return
        except Exception as error:
            fault = _worded(answerer, _fault(error, exchange))
            content, content_type = fault.content()
            await respond(send, exchange, fault.status, content, content_type, fault.headers)
            _log_request(exchange, fault.status, started)
        else:
            await respond(send, exchange, reply.status, content, "application/json", dict(reply.headers))
            _log_request(exchange, reply.status, started)


def _first(path: str) -> str:
    return path[1:].partition("/")[0]


def _worded(answerer: object, fault: Fault) -> Fault:
    return answerer.worded(fault) if isinstance(answerer, Wording) else fault


def _fault(error: Exception, exchange: Exchange) -> Fault:
    if isinstance(error, Fault):
        return error
    if isinstance(error, RequestError):
        return fault_of(error)
    if isinstance(error, StoreUnavailableError):
        _log.warning("store unavailable", request_id=exchange.request_id, reason=str(error))
        return Unavailable("The database does not answer. The request may not have been carried out; try again.")
    if isinstance(error, IntegrityError) and _is_race(error):
        _log.warning("request lost a race", request_id=exchange.request_id, path=exchange.path, exc_info=error)
        return Conflict(
            "Something that this request depends on was changed by another one at the same time; nothing was done. "
            "Look at it again and repeat the request if it still applies."
        )
    _log.error("request failed", request_id=exchange.request_id, path=exchange.path, exc_info=error)
    return Internal()


def _is_race(error: IntegrityError) -> bool:
    """Whether a key was taken or a row referred to was missing: what a transaction beside ours can bring about after
    we looked. Other constraints (NOT NULL, CHECK) are broken by defects only."""
    if getattr(error.orig, "sqlstate", None) in _RACES_POSTGRESQL:
        return True
    return getattr(error.orig, "sqlite_errorname", None) in _RACES_SQLITE


def _log_request(exchange: Exchange, status: int, started: float) -> None:
    caller = exchange.caller
    _log.info(
        "request",
        request_id=exchange.request_id,
        method=exchange.method,
        path=exchange.path,
        status=status,
        ms=round((time.perf_counter() - started) * 1000, 3),
        user_id=caller.user_id if caller else None,
        project_id=caller.project_id if caller else None,
    )
