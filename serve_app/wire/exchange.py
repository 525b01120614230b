"""One request and its answer at the ASGI level, shared by all that the site serves."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any, Protocol, runtime_checkable
from urllib.parse import unquote_to_bytes

import orjson
from starlette.datastructures import QueryParams

from actors.asgi import CLUSTER
from cluster.caller import Caller
from serve_app.wire.faults import BadRequest, Fault
from serve_app.wire.route import Reply

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

_HOST = re.compile(r"[A-Za-z0-9._~\-]{1,255}(:[0-9]{1,5})?|\[[0-9A-Fa-f:.]{2,45}\](:[0-9]{1,5})?")
_GLOBAL_ID = re.compile(r"req-[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}")
_UNREADABLE = (
    "Error decoding your request. Either the URL or the request body contained characters that could not be decoded."
)
_NO_QUERY = QueryParams()


class HeaderMap(dict[str, str]):
    """Request headers, found by any spelling of their name. A header that came twice is joined by a comma."""

    def __init__(self, raw: Iterable[tuple[bytes, bytes]]) -> None:
        super().__init__()
        for name, value in raw:
            key, text = name.decode("latin-1").lower(), value.decode("latin-1")
            super().__setitem__(key, f"{super().__getitem__(key)}, {text}" if super().__contains__(key) else text)

    def __getitem__(self, name: str) -> str:
        return super().__getitem__(name.lower())

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and super().__contains__(name.lower())

    def get(self, name: str, default: Any = None) -> Any:
        """The header's value, or `default`."""
        return super().get(name.lower(), default)


class Exchange:
    """A request under way. `out` collects headers for the answer, whether it becomes a reply or a fault; `caller` is
    known once authenticated."""

    __slots__ = (
        "base",
        "caller",
        "global_request_id",
        "headers",
        "method",
        "out",
        "path",
        "receive",
        "request_id",
        "scope",
    )

    def __init__(self, scope: Scope, receive: Receive, request_id: str, public_url: str | None, endpoint: str) -> None:
        self.scope, self.receive = scope, receive
        self.method: str = scope["method"]
        self.path: str = scope["path"]
        self.headers = HeaderMap(scope["headers"])
        self.request_id = request_id
        given = self.headers.get("x-openstack-request-id")
        self.global_request_id = given if given is not None and _GLOBAL_ID.fullmatch(given) else None
        host = None if public_url else self.headers.get("host")
        valid = host is not None and _HOST.fullmatch(host)
        self.base = f"{scope.get('scheme', 'http')}://{host}" if valid else endpoint
        self.out: dict[str, str] = {}
        self.caller: Caller | None = None

    @property
    def from_cluster(self) -> bool:
        """Whether it came as a call from a program of the Ray cluster and not over HTTP."""
        return CLUSTER in self.scope.get("extensions", {})

    def check_path(self) -> None:
        """Raises BadRequest for a path that is not text: invalid UTF-8 or NUL characters."""
        if "\x00" in self.path or not (self.path.isascii() or _is_text(self.path)):
            raise BadRequest(_UNREADABLE)

    def query(self) -> QueryParams:
        """The query. Raises BadRequest if it is not text."""
        raw: bytes = self.scope.get("query_string", b"")
        if not raw:
            return _NO_QUERY
        if b"%" in raw or not raw.isascii():
            whole = unquote_to_bytes(raw)
            try:
                whole.decode()
            except UnicodeDecodeError:
                raise BadRequest(_UNREADABLE) from None
            if b"\x00" in whole:
                raise BadRequest(_UNREADABLE)
        return QueryParams(raw.decode())


class Answerer(Protocol):
    """Something the site serves under a first path segment."""

    async def answer(self, exchange: Exchange) -> Reply:
        """The reply to a request; a fault is raised."""
        ...


@runtime_checkable
class Wording(Protocol):
    """An answerer whose refusals look otherwise than Cinder's."""

    def worded(self, fault: Fault) -> Fault:
        """`fault` in the answerer's own envelope, also one that was raised before the answerer was asked."""
        ...


def content_of(reply: Reply) -> bytes:
    """The bytes of a reply's body."""
    body = reply.body
    if body is None:
        return b""
    return body if isinstance(body, bytes) else orjson.dumps(body)


async def respond(
    send: Send, exchange: Exchange, status: int, content: bytes, content_type: str, headers: dict[str, str]
) -> None:
    """Send an answer. A 204 has no content headers; HEAD has the headers only."""
    raw = [(name.lower().encode("latin-1"), value.encode("latin-1", "replace")) for name, value in exchange.out.items()]
    raw += [
        (name.lower().encode("latin-1"), value.encode("latin-1", "replace"))
        for name, value in headers.items()
        if name.lower() != "content-type"
    ]
    if status != 204:
        chosen = next((value for name, value in headers.items() if name.lower() == "content-type"), content_type)
        raw.append((b"content-type", chosen.encode("latin-1")))
        raw.append((b"content-length", str(len(content)).encode("ascii")))
    await send({"type": "http.response.start", "status": status, "headers": raw})
    await send({"type": "http.response.body", "body": b"" if exchange.method == "HEAD" else content})


def _is_text(path: str) -> bool:
    try:
        path.encode()
    except UnicodeEncodeError:
        return False
    return "\ufffd" not in path
