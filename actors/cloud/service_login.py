"""The instance's own user in the cloud's Keystone: its token, and where Keystone's catalog says other services are."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import structlog

from cluster.settings import IdentitySettings

_log = structlog.get_logger("pumice.cloud")


class LoginError(Exception):
    """The service's own user gets no token now: Keystone does not answer, or refuses it. The message can be shown."""


class ServiceLogin:
    """The user of `settings.keystone_*`. `client` is the caller's, who closes it."""

    def __init__(self, settings: IdentitySettings, client: httpx.AsyncClient) -> None:
        self.url = identity_url(settings.keystone_url or "")
        self._settings = settings
        self._client = client
        self._token: str | None = None
        self._renewing = asyncio.Lock()

    async def token(self, stale: str | None = None) -> str:
        """A token of our own other than `stale`; many who find it stale log in once. Raises LoginError."""
        if self._token is not None and self._token != stale:
            return self._token
        async with self._renewing:
            if self._token is None or self._token == stale:
                self._token = await self._log_in()
            return self._token

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
        try:
            answer = await self._client.post(f"{self.url}/auth/tokens?nocatalog", json=body)
        except httpx.HTTPError as error:
            _log.error("keystone unreachable", reason=type(error).__name__)
            raise LoginError("The Keystone service is temporarily unavailable.") from error
        if answer.status_code != 201:
            _log.error("keystone login failed", status=answer.status_code, user=settings.keystone_username)
            raise LoginError(
                "Keystone does not accept this service's own user; check identity.keystone_username and its password."
            )
        return str(answer.headers["X-Subject-Token"])


def identity_url(url: str) -> str:
    """`url` of a Keystone with `/v3` behind it once."""
    url = url.rstrip("/")
    return url if url.endswith("/v3") else f"{url}/v3"


def endpoint_of(catalog: Any, service_type: str, region: str) -> str | None:
    """The public URL of a service in Keystone's answer to `/auth/catalog`, that of `region` before that of another;
    None when there is no such service. Raises ValueError when the answer is no catalog."""
    try:
        found = [
            (endpoint.get("region") != region, str(endpoint["url"]).rstrip("/"))
            for service in catalog["catalog"]
            if service["type"] == service_type
            for endpoint in service["endpoints"]
            if endpoint["interface"] == "public"
        ]
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError("Keystone's catalog could not be read") from error
    return min(found)[1] if found else None
