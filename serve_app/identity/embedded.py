"""The embedded identity's authenticator: tokens of this instance, checked against SQL and remembered for a moment.

Between a change (revoked, disabled, role taken away, new password) and the last replica that still believes the token
lie at most `REMEMBERED_SECONDS`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from cluster.caller import Caller
from cluster.identity import queries
from cluster.identity.queries import Standing
from cluster.outside import Outside
from cluster.store.seam import Store
from serve_app.identity.memory import Memory
from serve_app.identity.tokens import LONGEST, Claims, TokenSigner
from serve_app.wire.faults import Unauthorized

REMEMBERED_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class Session:
    """A valid token: what it says and what its user is now."""

    claims: Claims
    standing: Standing


class EmbeddedAuthenticator:
    """Validates tokens that `signer` made. `uri` is where to get one."""

    def __init__(
        self,
        store: Store,
        outside: Outside,
        signer: TokenSigner,
        uri: str,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.signer = signer
        self.uri = uri
        self._store, self._outside = store, outside
        # That a token is not valid is mostly seen from its signature, without asking SQL.
        self._memory: Memory[Session | None] = Memory(REMEMBERED_SECONDS, clock, lambda session: session is None)

    async def authenticate(
        self, headers: Mapping[str, str], request_id: str, global_request_id: str | None = None
    ) -> Caller:
        """The caller that the embedded token is for; an X-Service-Token must be valid too, and with the role `service`
        makes the request a service's. Raises Unauthorized."""
        token, service = headers.get("x-auth-token"), headers.get("x-service-token")
        session = await self.session(token) if token is not None else None
        behind = await self.session(service) if service else None
        if session is None or (service and behind is None):
            raise Unauthorized(self.uri)
        standing = session.standing
        return Caller(
            user_id=standing.user_id,
            project_id=standing.project_id or "",
            request_id=request_id,
            roles=standing.roles,
            is_admin="admin" in standing.roles,
            is_service=behind is not None and "service" in behind.standing.roles,
            global_request_id=global_request_id,
            user_name=standing.user_name,
            project_name=standing.project_name,
        )

    async def session(self, token: str) -> Session | None:
        """The valid token `token`, or None."""
        if not 0 < len(token) <= LONGEST:
            return None
        session = await self._memory.get(token, lambda: self._find(token))
        if session is None or session.claims.expires_at <= self._outside.seconds():
            return None
        return session

    def forget(self) -> None:
        """Believe nothing that was remembered: something was changed here."""
        self._memory.forget()

    async def close(self) -> None:
        """Nothing is open; the store is its owner's."""

    async def _find(self, token: str) -> Session | None:
        claims = self.signer.read(token, self._outside.seconds())
        if claims is None:
            return None
        standing = await self._store.read(
            lambda db: queries.standing(db, claims.user_id, claims.project_id, claims.audit_id)
        )
        if standing is None or standing.generation != claims.generation:
            return None
        return Session(claims, standing)
