"""No authentication, as Cinder's noauth: the token is `user:project`, everybody is an administrator.

Settings refuse this mode unless the service listens on loopback.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from cluster.caller import Caller
from serve_app.wire.faults import Fault, Unauthorized

_NAME = re.compile(r"[\x21-\x39\x3b-\x7e]{1,255}")


class Greeting(Fault):
    """204 for a request without a token: it says which token to come with."""

    status = 204

    def __init__(self, user: str, project: str) -> None:
        super().__init__("", {"X-Auth-Token": f"{user}:{project}"})

    def content(self) -> tuple[bytes, str]:
        return b"", "text/plain"


class NoAuthenticator:
    """Believes what it is told."""

    async def authenticate(
        self, headers: Mapping[str, str], request_id: str, global_request_id: str | None = None
    ) -> Caller:
        """The caller named by the token `user:project` (`user` alone is both). Raises Greeting, Unauthorized."""
        token = headers.get("x-auth-token")
        if token is None:
            raise Greeting(_safe(headers.get("x-auth-user", "admin")), _safe(headers.get("x-auth-project-id", "admin")))
        user, _, project = token.partition(":")
        project = project or user
        if not _NAME.fullmatch(user) or not _NAME.fullmatch(project):
            raise Unauthorized
        return Caller(
            user_id=user,
            project_id=project,
            request_id=request_id,
            roles=frozenset(("admin", "member", "reader")),
            is_admin=True,
            global_request_id=global_request_id,
            user_name=user,
            project_name=project,
        )

    async def close(self) -> None:
        """Nothing is open."""


def _safe(name: str) -> str:
    return name if _NAME.fullmatch(name) else "admin"
