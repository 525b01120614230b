"""Asking an ASGI application without HTTP.

Such a request carries the extension `pumice.cluster`, which no server lets a client set: it says that whoever asks is a
program of the cluster.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any
from urllib.parse import unquote

CLUSTER = "pumice.cluster"


async def answer_of(
    app: Callable[[Any, Any, Any], Awaitable[None]], method: str, path: str, headers: Mapping[str, str], content: bytes
) -> tuple[int, dict[str, str], bytes]:
    """Status, headers (names in lower case) and body of the answer. `path` is quoted as in a URL, and may have a
    query."""
    plain, _, query = path.partition("?")
    scope: dict[str, Any] = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": unquote(plain),
        "raw_path": plain.encode(),
        "root_path": "",
        "query_string": query.encode(),
        "headers": [
            (b"content-length", str(len(content)).encode()),
            *((name.lower().encode(), value.encode()) for name, value in headers.items()),
        ],
        "client": None,
        "server": None,
        "extensions": {CLUSTER: {}},
    }
    waiting = [{"type": "http.request", "body": content, "more_body": False}]
    status, answered, body = 500, dict[str, str](), bytearray()

    async def receive() -> dict[str, Any]:
        return waiting.pop() if waiting else {"type": "http.disconnect"}

    async def send(message: Mapping[str, Any]) -> None:
        nonlocal status
        if message["type"] == "http.response.start":
            status = message["status"]
            answered.update((name.decode().lower(), value.decode()) for name, value in message.get("headers", ()))
        elif message["type"] == "http.response.body":
            body.extend(message.get("body", b""))

    await app(scope, receive, send)
    return status, answered, bytes(body)
