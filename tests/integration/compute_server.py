"""A Nova that knows every server: what `openstack volume attachment create` asks before it asks for the attachment."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class _Handler(BaseHTTPRequestHandler):
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
        content = json.dumps(body).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002 - the base class says so
        """Nothing is logged."""


@contextmanager
def compute_server() -> Iterator[str]:
    """Its endpoint, while it runs."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/v2.1"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
