"""A Nova that knows every server: what `openstack volume attachment create` asks before it asks for the attachment."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class _Server(ThreadingHTTPServer):
    """Keeps the external events that it was sent, each with the token."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.events: list[tuple[str, dict[str, str]]] = []


class _Handler(BaseHTTPRequestHandler):
    server: _Server

    def do_POST(self) -> None:
        """External events: every one is taken."""
        events = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["events"]
        self.server.events += [(self.headers["X-Auth-Token"], event) for event in events]
        self._answer({"events": [event | {"code": 200, "status": "completed"} for event in events]})

    def do_GET(self) -> None:
        """The version document, or the server of any id."""
        words = self.path.partition("?")[0].strip("/").split("/")
        here = f"http://{self.headers['Host']}/v2.1/"
        if words[1:2] == ["servers"] and len(words) == 3:
            body: object = {"server": {"id": words[2], "name": "one", "status": "ACTIVE"}}
        else:
            links = [{"rel": "self", "href": here}]
            version = {"id": "v2.1", "status": "CURRENT", "version": "2.96", "min_version": "2.1", "links": links}
            body = {"version": version}
        self._answer(body)

    def _answer(self, body: object) -> None:
        content = json.dumps(body).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002 - the base class says so
        """Nothing is logged."""


@dataclass(frozen=True)
class Compute:
    """A running one. `events` are those it was sent, each with the token of its sender."""

    endpoint: str
    events: list[tuple[str, dict[str, str]]]


@contextmanager
def compute_server() -> Iterator[Compute]:
    """It, while it runs."""
    server = _Server()
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield Compute(f"http://127.0.0.1:{server.server_address[1]}/v2.1", server.events)
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
