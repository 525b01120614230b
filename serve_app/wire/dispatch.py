"""Serving the routes under `/v3/{project_id}` and `/v3`.

The order, which is Cinder's unless said otherwise: route (404 in webob's words), announced body length (413),
microversion (406, 400, 404), authentication (401, 503), project of the URL (400), policy (403), body (413, 415, 400),
handler. Cinder authenticates before it routes; here a path that nothing serves costs no look-up of a token.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from cluster.caller import Caller
from serve_app.identity import policy
from serve_app.identity.authenticator import Authenticator
from serve_app.wire import body, microversion
from serve_app.wire.exchange import Exchange
from serve_app.wire.faults import BadRequest, Forbidden, NoSuchRoute
from serve_app.wire.route import Action, Call, Reply, Room, Route
from serve_app.wire.tree import Tree

# Cinder's `project_id_regex`; no collection of the API is spelt in these characters only.
_PROJECT = re.compile(r"[0-9a-f\-]+")
_WITH_BODY = ("POST", "PUT")


class ActionSet(dict[str, Action]):
    """The actions of one `POST …/action`, by key."""


class Dispatch:
    """Answers requests below `/v3` with the handlers of `routes` and `actions`."""

    def __init__(
        self, room: Room, authenticator: Authenticator, routes: Iterable[Route], actions: Iterable[Action] = ()
    ) -> None:
        self._room, self._authenticator = room, authenticator
        self._limit = room.settings.max_body_bytes
        self._tree: Tree[Route | ActionSet] = Tree()
        for route in routes:
            self._tree.add(route.method, route.path, route)
        by_path: dict[str, ActionSet] = {}
        for action in actions:
            known = by_path.setdefault(action.path, ActionSet())
            if action.key in known:
                raise ValueError(f"{action.path}: two actions {action.key}")
            known[action.key] = action
        for path, known in by_path.items():
            self._tree.add("POST", f"{path}/action", known)

    async def answer(self, exchange: Exchange) -> Reply:
        """The reply to a request whose path begins with `/v3`. Raises faults and what handlers raise."""
        exchange.out["x-compute-request-id"] = exchange.out["x-openstack-request-id"] = exchange.request_id
        parts = exchange.path.split("/")[2:]
        if not parts:
            return _to_slash(exchange)
        if len(parts) > 1 and parts[-1] == "":
            parts.pop()
        project = parts.pop(0) if _PROJECT.fullmatch(parts[0]) else None
        found = self._tree.find(exchange.method, parts)
        if found is None or (project is not None and not parts):
            raise NoSuchRoute
        endpoint, values = found
        headers = exchange.headers
        body.check_length(headers.get("content-length"), self._limit)
        minor = microversion.negotiate(headers.get("openstack-api-version"))
        exchange.out["OpenStack-API-Version"] = f"volume 3.{minor}"
        exchange.out["Vary"] = microversion.HEADER
        if isinstance(endpoint, Route) and endpoint.since > minor:
            raise microversion.unsupported(minor)
        caller = await self._authenticator.authenticate(headers, exchange.request_id, exchange.global_request_id)
        exchange.caller = caller
        if project is not None and project != caller.project_id:
            raise BadRequest("Malformed request url")
        value: Any = None
        if isinstance(endpoint, Route):
            chosen: Route | Action = endpoint
            _check(chosen.rule, caller)
            if endpoint.method in _WITH_BODY:
                value = await self._json(exchange)
        else:
            chosen, value = _action(endpoint, await self._json(exchange))
            if chosen.since > minor:
                raise microversion.unsupported(minor)
            _check(chosen.rule, caller)
        base = exchange.base
        call = Call(
            room=self._room,
            caller=caller,
            minor=minor,
            path=values,
            query=exchange.query(),
            headers=headers,
            base=base,
            prefix=f"{base}/v3" if project is None else f"{base}/v3/{project}",
            body=_validated(chosen, minor, value),
            from_cluster=exchange.from_cluster,
        )
        return await chosen.handler(call)

    async def _json(self, exchange: Exchange) -> Any:
        raw = await body.read(exchange.receive, self._limit)
        return body.parse(raw, exchange.headers.get("content-type"))


def _check(rule: str, caller: Caller) -> None:
    if not policy.allows(rule, caller):
        raise Forbidden(f"Policy doesn't allow {rule} to be performed.")


def _action(known: ActionSet, value: Any) -> tuple[Action, Any]:
    if value is None:
        raise _no_such_action("action")
    if not isinstance(value, dict) or len(value) != 1:
        raise BadRequest("Malformed request body")
    key, inner = next(iter(value.items()))
    action = known.get(key)
    if action is None:
        raise _no_such_action(key)
    return action, inner


def _no_such_action(key: str) -> BadRequest:
    return BadRequest(
        f"There is no such action: {key[:255]}. Verify the request body and Content-Type header and try again."
    )


def _validated(chosen: Route | Action, minor: int, value: Any) -> Any:
    model = None if chosen.body is None else body.model_for(chosen.body, minor)
    if model is None:
        return None
    return body.validated(model, value, chosen.key if isinstance(chosen, Action) else None)


def _to_slash(exchange: Exchange) -> Reply:
    """`/v3` leads to `/v3/`, as the routes mapper's redirect does."""
    if exchange.method not in ("GET", "HEAD"):
        raise NoSuchRoute
    return Reply(302, b"", {"Location": f"{exchange.base}/v3/", "Content-Type": "text/html; charset=UTF-8"})
