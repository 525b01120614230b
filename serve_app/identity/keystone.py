"""Tokens of a real Keystone, validated with a service user's own token.

A validation is remembered for `cache_seconds`, but never beyond the token's end; many requests with one token cost
one call. Keystone not answering is 503, not 401: the caller's token may be right.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import httpx
import structlog

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
        self._settings, self._seconds = settings, seconds
        self._url = identity_url(settings.keystone_url or "")
        self._client = httpx.AsyncClient(timeout=_TIMEOUT, transport=transport, trust_env=False)
        self._memory: Memory[Known | None] = Memory(settings.cache_seconds)
        self._own_token: str | None = None
        self._renewing = asyncio.Lock()

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
        own = self._own_token or await self._renewed(None)
        answer = await self._ask(token, own)
        if answer.status_code == 401:
            answer = await self._ask(token, await self._renewed(own))
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
        return await self._send("GET", "/auth/tokens?nocatalog", headers, None)

    async def _renewed(self, stale: str | None) -> str:
        """A token of our own other than `stale`; many who find it stale log in once."""
        async with self._renewing:
            if self._own_token is None or self._own_token == stale:
                self._own_token = await self._log_in()
            return self._own_token

    async def _log_in(self) -> str:
        settings = self._settings
        assert settings.keystone_password is not None, "settings refuse the mode without it"
        user = {
            "name": settings.keystone_username,
            "domain": {"name": settings.keystone_user_domain},
            "password": settings.keystone_password.get_secret_value(),
        }
        project = {"name": settings.keystone_project, "domain": {"name": settings.keystone_project_domain}}
        body = {
            "auth": {
                "identity": {"methods": ["password"], "password": {"user": user}},
                "scope": {"project": project},
            }
        }
        answer = await self._send("POST", "/auth/tokens?nocatalog", {}, body)
        if answer.status_code != 201:
            _log.error("keystone login failed", status=answer.status_code, user=settings.keystone_username)
            raise Unavailable(
                "Keystone does not accept this service's own user; check identity.keystone_username and its password."
            )
        return str(answer.headers["X-Subject-Token"])

    async def _send(self, method: str, path: str, headers: dict[str, str], body: Any) -> httpx.Response:
        try:
            return await self._client.request(method, f"{self._url}{path}", headers=headers, json=body)
        except httpx.HTTPError as error:
            _log.error("keystone unreachable", reason=type(error).__name__)
            raise Unavailable("The Keystone service is temporarily unavailable.") from error


def identity_url(url: str) -> str:
    """`url` of a Keystone with `/v3` behind it once."""
    url = url.rstrip("/")
    return url if url.endswith("/v3") else f"{url}/v3"


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
