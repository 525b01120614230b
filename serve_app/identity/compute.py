"""Asking the cloud's Nova whether one of its servers uses a volume. Keystone's catalog says where Nova is, and whether
there is one at all. The question is asked with the caller's own token, as Cinder asks it."""

from __future__ import annotations

from typing import Any, Final

import httpx
import structlog

from actors.cloud.service_login import endpoint_of, identity_url
from serve_app.wire.faults import Unavailable

# The first microversion whose answer names the attachment.
_VERSION: Final = "compute 2.89"
_TIMEOUT: Final = httpx.Timeout(10.0, connect=3.0)
_log = structlog.get_logger("pumice.compute")


class Nova:
    """The Nova of the cloud whose Keystone is at `keystone_url`; of several, that of `region`. `transport` is for
    tests."""

    def __init__(self, keystone_url: str, region: str, transport: httpx.AsyncBaseTransport | None = None) -> None:
        self._catalog, self._region = f"{identity_url(keystone_url)}/auth/catalog", region
        self._client = httpx.AsyncClient(timeout=_TIMEOUT, transport=transport, trust_env=False)

    async def attachment(self, token: str, server_id: str, volume_id: str) -> str | None:
        """The id of the attachment by which the server uses the volume. None: it does not, there is no such server, or
        the cloud has no Nova. Raises Unavailable."""
        catalog = await self._get(self._catalog, token)
        try:
            endpoint = endpoint_of(catalog, "compute", self._region)
        except ValueError as error:
            raise Unavailable(f"{error}.") from error
        if endpoint is None:
            return None
        url = f"{endpoint}/servers/{server_id}/os-volume_attachments/{volume_id}"
        answer = await self._get(url, token)
        try:
            return None if answer is None else str(answer["volumeAttachment"]["attachment_id"])
        except (KeyError, TypeError) as error:
            raise self._unavailable(url, "an answer that cannot be read") from error

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    async def _get(self, url: str, token: str) -> Any:
        headers = {"X-Auth-Token": token, "OpenStack-API-Version": _VERSION}
        try:
            answer = await self._client.get(url, headers=headers)
            if answer.status_code == 404:
                return None
            if answer.status_code != 200:
                raise self._unavailable(url, str(answer.status_code))
            return answer.json()
        except (httpx.HTTPError, ValueError) as error:
            raise self._unavailable(url, type(error).__name__) from error

    def _unavailable(self, url: str, reason: str) -> Unavailable:
        _log.error("compute service does not say who uses a volume", url=url, reason=reason)
        return Unavailable("The Compute service cannot say now whether a server uses this volume; try again.")
