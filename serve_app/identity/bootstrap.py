"""The first administrator of the embedded identity, and a new password for it when the old one is lost."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field

from argon2 import PasswordHasher

from cluster.identity import intents
from cluster.identity.intents import ADMIN_NAME
from cluster.outside import Outside
from cluster.settings import IdentityMode, Settings
from cluster.store.seam import Store


@dataclass(frozen=True)
class AdminCredentials:
    """What an administrator logs in with. The password is known here only: SQL has its hash."""

    password: str = field(repr=False)
    username: str = ADMIN_NAME
    project_name: str = ADMIN_NAME


async def bootstrap(store: Store, settings: Settings, outside: Outside) -> AdminCredentials | None:
    """Make sure that project, user and role `admin` are there. Returns the password if the user was made now, else
    None; None too when the identity is not embedded. Safe to repeat and to run several times at once."""
    if settings.identity.mode is not IdentityMode.EMBEDDED:
        return None
    return await _ensure(store, outside, renew=False)


async def reset_admin_password(store: Store, outside: Outside) -> AdminCredentials:
    """Give the user `admin` a new password (making what is missing) and end its tokens. For whoever has lost
    clouds.yaml, also by a crash after `bootstrap` and before the file was written."""
    credentials = await _ensure(store, outside, renew=True)
    assert credentials is not None, "a renewed password is always the given one"
    return credentials


async def _ensure(store: Store, outside: Outside, *, renew: bool) -> AdminCredentials | None:
    password = secrets.token_urlsafe(24)
    password_hash = PasswordHasher().hash(password)
    project_id, user_id = outside.new_id().replace("-", ""), outside.new_id().replace("-", "")
    given = await store.write(lambda db: intents.ensure_admin(db, project_id, user_id, password_hash, renew))
    return AdminCredentials(password) if given else None
