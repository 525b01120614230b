"""A caller's requests: logging in, again when a token has run out, and errors in words."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from actors.handles.errors import HandleError, NotAllowedError, error_of
from actors.handles.transport import Answer, Transport

MICROVERSION = "volume 3.71"


@dataclass(frozen=True)
class Login:
    """Who a session is for. Without a user name: whom the settings name for programs of the cluster
    (`identity.cluster_user`). A password travels with a handle that is passed to a task; that of nobody does not."""

    username: str | None = None
    password: str | None = field(default=None, repr=False)
    project_name: str | None = None
    domain_name: str = "Default"

    def body(self) -> dict[str, Any]:
        """The body of `POST /identity/v3/auth/tokens`."""
        if self.username is None:
            return {"auth": {"identity": {"methods": ["cluster"]}}}
        domain = {"name": self.domain_name}
        user = {"name": self.username, "password": self.password or "", "domain": domain}
        auth: dict[str, Any] = {"identity": {"methods": ["password"], "password": {"user": user}}}
        if self.project_name is not None:
            auth["scope"] = {"project": {"name": self.project_name, "domain": domain}}
        return {"auth": auth}


class Session:
    """Requests as one caller. Can be pickled: the other side logs in anew."""

    def __init__(self, transport: Transport, login: Login) -> None:
        self._transport, self._login = transport, login
        self._token: str | None = None
        self._project_id = ""

    def __reduce__(self) -> tuple[Any, ...]:
        return Session, (self._transport, self._login)

    async def call(self, method: str, path: str, body: Any = None) -> Any:
        """The JSON that the API answers to `path` (below `/v3/{project_id}`), or None. Raises HandleError."""
        if self._token is None:
            await self._log_in()
        answer = await self._ask(method, path, body)
        if answer.status == 401:  # the token ran out, or was given back
            await self._log_in()
            answer = await self._ask(method, path, body)
        if answer.status >= 400:
            raise error_of(answer.status, _said(answer, f"{method} {path}"))
        return json.loads(answer.content) if answer.content else None

    async def _ask(self, method: str, path: str, body: Any) -> Answer:
        headers = {"x-auth-token": self._token or "", "openstack-api-version": MICROVERSION}
        content = b""
        if body is not None:
            headers["content-type"], content = "application/json", json.dumps(body).encode()
        return await self._transport.ask(method, f"/v3/{self._project_id}{path}", headers, content)

    async def _log_in(self) -> None:
        headers = {"content-type": "application/json"}
        body = json.dumps(self._login.body()).encode()
        answer = await self._transport.ask("POST", "/identity/v3/auth/tokens", headers, body)
        if answer.status != 201:
            raise self._not_in(answer)
        project = json.loads(answer.content)["token"].get("project")
        if project is None:
            raise NotAllowedError(f"{self._login.username} has no role in a project; give project_name to connect()")
        self._token, self._project_id = answer.headers["x-subject-token"], project["id"]

    def _not_in(self, answer: Answer) -> HandleError:
        said = _said(answer, "logging in")
        if answer.status == 404:
            return NotAllowedError(
                "this instance takes its tokens from a Keystone of its own; handles need identity.mode 'embedded'"
            )
        if self._login.username is None and answer.status in (401, 403):
            return NotAllowedError(f"give username, password and project_name to connect(): {said}")
        return error_of(answer.status, said)


def _said(answer: Answer, doing: str) -> str:
    """The sentence in an error's envelope."""
    try:
        [envelope] = json.loads(answer.content).values()
        message = str(envelope["message"])
    except (ValueError, KeyError, TypeError, AttributeError):
        message = f"{doing} was answered with HTTP status {answer.status}"
    request_id = answer.headers.get("x-openstack-request-id")
    return f"{message} ({request_id})" if request_id else message
