"""The embedded Keystone under `/identity`: version documents and the operations below `/identity/v3`."""

from __future__ import annotations

from dataclasses import replace

from serve_app.identity import assignments, catalog, login, projects, users
from serve_app.identity.embedded import EmbeddedAuthenticator
from serve_app.identity.operation import Access, IdentityCall, IdentityFault, Operation, forbidden, unauthorized
from serve_app.identity.passwords import Passwords
from serve_app.wire import body
from serve_app.wire.exchange import Exchange
from serve_app.wire.faults import Fault
from serve_app.wire.route import Reply, Room
from serve_app.wire.tree import Tree

OPERATIONS: tuple[Operation, ...] = (
    *login.OPERATIONS,
    *users.OPERATIONS,
    *projects.OPERATIONS,
    *assignments.OPERATIONS,
    *catalog.OPERATIONS,
)
_WITH_BODY = ("POST", "PUT", "PATCH")


class KeystoneSite:
    """Answers requests below `/identity` in Keystone's shapes."""

    def __init__(self, room: Room, authenticator: EmbeddedAuthenticator, passwords: Passwords) -> None:
        self._room, self._authenticator, self._passwords = room, authenticator, passwords
        self._limit = room.settings.max_body_bytes
        self._tree: Tree[Operation] = Tree()
        for operation in OPERATIONS:
            self._tree.add(operation.method, operation.path, operation)

    async def answer(self, exchange: Exchange) -> Reply:
        """The reply to a request whose path begins with `/identity`. Raises faults and what operations raise."""
        exchange.out["x-openstack-request-id"] = exchange.request_id
        parts = exchange.path.rstrip("/").split("/")[2:]
        version = _version(exchange.base)
        if not parts and exchange.method in ("GET", "HEAD"):
            return Reply(300, {"versions": {"values": [version]}})
        if parts == ["v3"] and exchange.method in ("GET", "HEAD"):
            return Reply(200, {"version": version})
        found = self._tree.find(exchange.method, parts[1:]) if parts[:1] == ["v3"] and len(parts) > 1 else None
        if found is None:
            raise IdentityFault(404, "The resource could not be found.")
        operation, values = found
        headers = exchange.headers
        body.check_length(headers.get("content-length"), self._limit)
        token = headers.get("x-auth-token")
        session = await self._authenticator.session(token) if token and operation.access is not Access.ANYONE else None
        call = IdentityCall(
            room=self._room,
            authenticator=self._authenticator,
            passwords=self._passwords,
            headers=headers,
            path=values,
            query=exchange.query(),
            url=f"{exchange.base}/identity/v3",
            maybe_session=session,
            from_cluster=exchange.from_cluster,
        )
        if operation.access is not Access.ANYONE and session is None:
            raise unauthorized()
        if operation.access is Access.ADMIN and not call.is_admin:
            raise forbidden(f"{operation.method.lower()}_{parts[1]}")
        if operation.body is not None and operation.method in _WITH_BODY:
            raw = await body.read(exchange.receive, self._limit)
            value = body.parse(raw, headers.get("content-type"))
            call = replace(call, body=body.validated(operation.body, value))
        return await operation.handler(call)

    def worded(self, fault: Fault) -> Fault:
        """`fault` in Keystone's envelope."""
        return fault if isinstance(fault, IdentityFault) else IdentityFault(fault.status, fault.message, fault.headers)


def _version(base: str) -> dict[str, object]:
    return {
        "id": "v3.14",
        "status": "stable",
        "updated": "2020-04-07T00:00:00Z",
        "links": [{"rel": "self", "href": f"{base}/identity/v3/"}],
        "media-types": [{"base": "application/json", "type": "application/vnd.openstack.identity-v3+json"}],
    }
