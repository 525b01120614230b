"""How a handle's requests reach the API: through the cluster, from any of its nodes, or over HTTP.

Both carry the same requests to the same routes; so rights and quotas are the REST API's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import httpx

from actors.handles.errors import UnreachableError

SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer of the API. The names of `headers` are in lower case."""

    status: int
    headers: Mapping[str, str]
    content: bytes


class Transport(Protocol):
    """Carries one request."""

    async def ask(self, method: str, path: str, headers: Mapping[str, str], content: bytes) -> Answer:
        """The answer, whatever its status. Raises UnreachableError."""
        ...


class ClusterTransport:
    """Calls a replica of the API as an actor: no port has to be reachable, and the caller is known to be a program of
    the cluster (so it may log in without a password, where the settings allow that)."""

    async def ask(self, method: str, path: str, headers: Mapping[str, str], content: bytes) -> Answer:
        """See Transport."""
        from actors import ray_port

        try:
            status, answered, body = await ray_port.ask_http(method, path, dict(headers), content, SECONDS)
        except ray_port.NotSentError as error:
            raise UnreachableError(
                f"{method} {path} was not sent: {error}; see with `pumice status` whether the instance is ready, and "
                "whether it is the cluster that this process belongs to"
            ) from error
        except ray_port.ActorUnavailableError as error:
            raise UnreachableError(f"the service did not answer {method} {path}: {error}") from error
        return Answer(status, answered, body)


class HttpTransport:
    """Plain HTTP to `endpoint` (no trailing slash)."""

    def __init__(self, endpoint: str) -> None:
        self.endpoint = endpoint

    async def ask(self, method: str, path: str, headers: Mapping[str, str], content: bytes) -> Answer:
        """See Transport."""
        try:
            async with httpx.AsyncClient(base_url=self.endpoint, timeout=SECONDS, trust_env=False) as client:
                answer = await client.request(method, path, headers=dict(headers), content=content)
        except httpx.HTTPError as error:
            raise UnreachableError(
                f"{self.endpoint} did not answer {method} {path}: {str(error) or type(error).__name__}"
            ) from error
        return Answer(answer.status_code, {k.lower(): v for k, v in answer.headers.items()}, answer.content)
