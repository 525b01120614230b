"""Embedded tokens: signed JSON (JWT, HS512) that says who, for which project, since when, until when.

What a token cannot know — disabled, role taken away, password changed, revoked — is asked of SQL at validation.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass

from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import OctKey

_ALGORITHM = "HS512"
_HEADER = {"alg": _ALGORITHM, "typ": "JWT"}
_ISSUER = "pumice"
LONGEST = 4096


@dataclass(frozen=True, slots=True)
class Claims:
    """What a token says. Times are whole seconds since the epoch; `audit_ids` are its own and that of the token it was
    made from; `generation` is the user's when it was made."""

    user_id: str
    project_id: str | None
    generation: int
    methods: tuple[str, ...]
    audit_ids: tuple[str, ...]
    issued_at: int
    expires_at: int

    @property
    def audit_id(self) -> str:
        """The token's own id, under which it is revoked."""
        return self.audit_ids[0]


def new_audit_id() -> str:
    """A random id of 22 characters."""
    return secrets.token_urlsafe(16)


class TokenSigner:
    """Makes and reads tokens with one key."""

    def __init__(self, key: bytes) -> None:
        self._key = OctKey.import_key(key)
        # Every token of ours begins so. What begins otherwise is not decoded: a header says how to read the rest.
        self._head = jwt.encode(_HEADER, {}, self._key, algorithms=[_ALGORITHM]).partition(".")[0]

    def sign(self, claims: Claims) -> str:
        """The token that says `claims`."""
        return jwt.encode(
            _HEADER,
            {
                "iss": _ISSUER,
                "sub": claims.user_id,
                "prj": claims.project_id,
                "gen": claims.generation,
                "amr": list(claims.methods),
                "aud_ids": list(claims.audit_ids),
                "iat": claims.issued_at,
                "exp": claims.expires_at,
            },
            self._key,
            algorithms=[_ALGORITHM],
        )

    def read(self, token: str, now: float) -> Claims | None:
        """What `token` says; None if it was not signed with this key, is damaged, or has expired at `now`."""
        if len(token) > LONGEST or not token.isascii() or token.partition(".")[0] != self._head:
            return None
        try:
            said = jwt.decode(token, self._key, algorithms=[_ALGORITHM]).claims
            if said["iss"] != _ISSUER or said["exp"] <= now:
                return None
            return Claims(
                user_id=said["sub"],
                project_id=said["prj"],
                generation=said["gen"],
                methods=tuple(said["amr"]),
                audit_ids=tuple(said["aud_ids"]),
                issued_at=said["iat"],
                expires_at=said["exp"],
            )
        except (JoseError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
            return None
