"""Telling the cloud's Nova that a volume has grown that its servers use (its external event `volume-extended`).

Nova then has os-brick look at the device anew and tells the guest, so the guest sees the new size at once. Nova may be
told twice; the second time it finds nothing to do.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import httpx
import structlog

from actors.cloud.service_login import LoginError, ServiceLogin, endpoint_of
from cluster.settings import IdentitySettings

# The first microversion that knows the event.
_VERSION: Final = "compute 2.51"
_TIMEOUT: Final = httpx.Timeout(10.0, connect=3.0)
_log = structlog.get_logger("pumice.cloud")


class ComputeEvents:
    """The Nova of the cloud whose Keystone `identity` names; of several, that of `region`. `transport` is for tests."""

    def __init__(
        self, identity: IdentitySettings, region: str, transport: httpx.AsyncBaseTransport | None = None
    ) -> None:
        self._client = httpx.AsyncClient(timeout=_TIMEOUT, transport=transport, trust_env=False)
        self._login = ServiceLogin(identity, self._client)
        self._region = region

    async def volume_extended(self, volume_id: str, server_ids: Sequence[str], request_id: str) -> bool:
        """Whether Nova took the event for every one of the servers that it knows; True also in a cloud without Nova.
        Raises nothing: what went wrong is in the log."""
        try:
            return await self._tell(volume_id, server_ids, request_id)
        except Exception as error:  # whatever a catalog or an answer holds, the volume has grown
            reason = str(error) if isinstance(error, LoginError) else type(error).__name__
            _log.error("compute.not_told", volume_id=volume_id, request=request_id, reason=reason)
            return False

    async def _tell(self, volume_id: str, server_ids: Sequence[str], request_id: str) -> bool:
        catalog = await self._ask("GET", f"{self._login.url}/auth/catalog", request_id)
        endpoint = endpoint_of(catalog.raise_for_status().json(), "compute", self._region)
        if endpoint is None:
            return True
        events = [{"name": "volume-extended", "server_uuid": one, "tag": volume_id} for one in server_ids]
        answer = await self._ask("POST", f"{endpoint}/os-server-external-events", request_id, {"events": events})
        if answer.status_code == 404:  # none of them is a server of this cloud: a pod or a task uses the volume
            return True
        told = answer.raise_for_status().json()["events"]
        # 404: that one is no server; 422: it is on no host at present, and finds the new size when it starts.
        refused = [event for event in told if event.get("code") not in (200, 404, 422)]
        if refused:
            _log.error(
                "compute.refused", volume_id=volume_id, request=request_id, codes=[e.get("code") for e in refused]
            )
        return not refused

    async def _ask(self, method: str, url: str, request_id: str, body: Any = None) -> httpx.Response:
        """The answer; asked once more with a new token when ours is not known any more."""
        token = await self._login.token()
        answer = await self._send(method, url, request_id, token, body)
        if answer.status_code == 401:
            answer = await self._send(method, url, request_id, await self._login.token(token), body)
        return answer

    async def _send(self, method: str, url: str, request_id: str, token: str, body: Any) -> httpx.Response:
        headers = {
            "X-Auth-Token": token,
            "OpenStack-API-Version": _VERSION,
            "X-OpenStack-Nova-API-Version": _VERSION.split()[1],
            "X-OpenStack-Request-ID": request_id,
        }
        return await self._client.request(method, url, headers=headers, json=body)
