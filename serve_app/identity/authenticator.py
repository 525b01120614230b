"""What every way of authentication offers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from cluster.caller import Caller


class Authenticator(Protocol):
    """Turns the headers of a request into its caller."""

    async def authenticate(
        self, headers: Mapping[str, str], request_id: str, global_request_id: str | None = None
    ) -> Caller:
        """The caller that the request's token is for. `headers` are looked up in lower case.

        Raises Unauthorized (no token, or one that is not valid) and Unavailable (nobody can say now).
        """
        ...

    async def close(self) -> None:
        """Let go of connections. Safe to repeat."""
        ...
