"""Tokens of a real Keystone, validated with a service user's own token.

A validation is remembered for `cache_seconds`, but never beyond the token's end; many requests with one token cost
one call. Keystone not answering is 503, not 401: the caller's token may be right.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import httpx
import structlog

from actors.cloud.service_login import LoginError, ServiceLogin
from cluster.caller import Caller
from cluster.settings import IdentitySettings
from serve_app.identity.memory import Memory
from serve_app.wire.faults import Unauthorized, Unavailable

_LONGEST = 16_384
_TIMEOUT = httpx.Timeout(10.0, connect=3.0)
_log = structlog.get_logger("pumice.identity")


@dataclass(frozen=True, slots=True)
class Known:
    """A validated token. `expires_at` is seconds since the epoch."""

    user_id: str
    user_name: str
    project_id: str
    project_name: str | None
    roles: frozenset[str]
    expires_at: float


class KeystoneAuthenticator:
    """Asks the Keystone at `settings.keystone_url`. `transport` is for tests."""

    def __init__(
        self,
        settings: IdentitySettings,
        seconds: Callable[[], float] = time.time,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self._seconds = seconds
        self._client = httpx.AsyncClient(timeout=_TIMEOUT, transport=transport, trust_env=False)
        self._login = ServiceLogin(settings, self._client)
        self._url = self._login.url
        self._memory: Memory[Known | None] = Memory(settings.cache_seconds)

    async def authenticate(
        self, headers: Mapping[str, str], request_id: str, global_request_id: str | None = None
    ) -> Caller:
        """The caller that Keystone says the token is for; a valid X-Service-Token with role `service` adds the role
        `service`. Raises Unauthorized, Unavailable."""
        known = await self._known(headers.get("x-auth-token"))
        if known is None:
            raise Unauthorized(self._url)
        roles = known.roles
        service, is_service = headers.get("x-service-token"), False
        if service:
            behind = await self._known(service)
            if behind is None:
                raise Unauthorized(self._url)
            is_service = "service" in behind.roles
            roles = roles | (behind.roles & {"service"})
        return Caller(
            user_id=known.user_id,
            project_id=known.project_id,
            request_id=request_id,
            roles=roles,
            is_admin="admin" in known.roles,
            is_service=is_service,
            global_request_id=global_request_id,
            user_name=known.user_name,
            project_name=known.project_name,
        )

    async def close(self) -> None:
        """Close the connections to Keystone."""
        await self._client.aclose()

    async def _known(self, token: str | None) -> Known | None:
        if not token or len(token) > _LONGEST or not token.isascii():
            return None
        known = await self._memory.get(token, lambda: self._validate(token))
        if known is None or known.expires_at <= self._seconds():
            return None
        return known

    async def _validate(self, token: str) -> Known | None:
        """Ask Keystone; once more with a new token of our own if it does not know ours any more."""
        try:
            own = await self._login.token()
            answer = await self._ask(token, own)
            if answer.status_code == 401:
                answer = await self._ask(token, await self._login.token(own))
        except LoginError as error:
            raise Unavailable(str(error)) from error
        if answer.status_code == 404:
            return None
        if answer.status_code != 200:
            _log.error("keystone refuses validation", status=answer.status_code)
            raise Unavailable(f"Keystone answered {answer.status_code} when a token was to be validated.")
        try:
            return _known(answer.json()["token"])
        except (ValueError, KeyError, TypeError) as error:
            _log.error("keystone answers nonsense", reason=type(error).__name__)
            raise Unavailable("Keystone's answer to a validation could not be read.") from error

    async def _ask(self, token: str, own: str) -> httpx.Response:
        headers = {"X-Auth-Token": own, "X-Subject-Token": token}
        try:
            return await self._client.get(f"{self._url}/auth/tokens?nocatalog", headers=headers)
        except httpx.HTTPError as error:
            _log.error("keystone unreachable", reason=type(error).__name__)
            raise Unavailable("The Keystone service is temporarily unavailable.") from error


def _known(token: Mapping[str, Any]) -> Known:
    project = token.get("project") or {}
    return Known(
        user_id=token["user"]["id"],
        user_name=token["user"]["name"],
        project_id=project.get("id", ""),
        project_name=project.get("name"),
        roles=frozenset(role["name"] for role in token.get("roles", ())),
        expires_at=datetime.fromisoformat(token["expires_at"]).astimezone(UTC).timestamp(),
    )
