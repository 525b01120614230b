"""The one HTTP client of the benchmark, with the same effort for every service. Counts requests and failures.

Each thread holds one connection for as long as the server keeps it. No answer is parsed unless its content is needed.
"""

from __future__ import annotations

import http.client
import json
import threading
from collections import Counter
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

TIMEOUT_SECONDS = 120.0
_GOOD = frozenset({200, 201, 202, 204})


@dataclass(frozen=True, slots=True)
class Answer:
    """Status and body; status 0 means that there was no answer."""

    status: int
    body: bytes
    headers: dict[str, str]

    @property
    def good(self) -> bool:
        """Whether the service did what was asked."""
        return self.status in _GOOD

    def json(self) -> Any:
        """The body, parsed."""
        return json.loads(self.body)


class Client:
    """Requests below `endpoint` (with the project id where the service wants one). Safe to share between threads."""

    def __init__(self, endpoint: str, token: str | None = None, microversion: str | None = "3.70") -> None:
        url = urlsplit(endpoint)
        if url.scheme != "http" or url.hostname is None:
            raise ValueError(f"{endpoint!r} is no http:// address; the benchmark speaks nothing else")
        self._host, self._port, self._base = url.hostname, url.port or 80, url.path.rstrip("/")
        self._headers = {"Accept": "application/json"}
        if token is not None:
            self._headers["X-Auth-Token"] = token
        if microversion is not None:
            self._headers["OpenStack-API-Version"] = f"volume {microversion}"
        self._of_thread = threading.local()
        self._lock = threading.Lock()
        self._requests = 0
        self._failures: Counter[str] = Counter()

    def counts(self) -> tuple[int, Counter[str]]:
        """Requests made so far, and those that failed, by what they were and how they failed."""
        with self._lock:
            return self._requests, Counter(self._failures)

    def call(self, method: str, path: str, body: object = None, *, may_be_missing: bool = False) -> Answer:
        """One request; a failure is counted, not raised. With `may_be_missing`, 404 is no failure."""
        data = None if body is None else json.dumps(body).encode()
        headers = self._headers if data is None else {**self._headers, "Content-Type": "application/json"}
        answer = self._answer(method, self._base + path, data, headers)
        failed = not answer.good and not (may_be_missing and answer.status == 404)
        with self._lock:
            self._requests += 1
            if failed:
                how = f"HTTP {answer.status}" if answer.status else answer.body.decode()
                self._failures[f"{method} {_kind(path)}: {how}"] += 1
        return answer

    def _answer(self, method: str, path: str, data: bytes | None, headers: dict[str, str]) -> Answer:
        while True:
            connection: http.client.HTTPConnection | None = getattr(self._of_thread, "connection", None)
            if connection is None:
                connection = http.client.HTTPConnection(self._host, self._port, timeout=TIMEOUT_SECONDS)
                self._of_thread.connection = connection
            fresh = connection.sock is None
            try:
                connection.request(method, path, data, headers)
                response = connection.getresponse()
                body = response.read()
            except (http.client.HTTPException, OSError) as error:
                connection.close()
                # A kept connection may have been closed by the server meanwhile, which is no failure of a request.
                if fresh or not isinstance(error, http.client.RemoteDisconnected | ConnectionError):
                    return Answer(0, type(error).__name__.encode(), {})
            else:
                if response.will_close:
                    connection.close()
                return Answer(response.status, body, {key.lower(): value for key, value in response.getheaders()})


def _kind(path: str) -> str:
    """The path without ids and query, so that failures of one kind are counted together."""
    parts = path.partition("?")[0].strip("/").split("/")
    return "/".join(part if len(part) < 32 else "{id}" for part in parts)
