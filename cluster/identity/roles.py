"""The roles there are and what they imply: admin → member → reader; `service` stands alone."""

from __future__ import annotations

import uuid

READER, MEMBER, ADMIN, SERVICE = "reader", "member", "admin", "service"
_IMPLIED = {ADMIN: (MEMBER, READER), MEMBER: (READER,), READER: (), SERVICE: ()}
_SPACE = uuid.UUID("6f1d4c52-4f0e-4b55-9c0b-0d5f3a1f7c11")

IDS: dict[str, str] = {name: uuid.uuid5(_SPACE, name).hex for name in _IMPLIED}
NAMES: dict[str, str] = {role_id: name for name, role_id in IDS.items()}


def effective(roles: frozenset[str]) -> frozenset[str]:
    """`roles` and all that they imply."""
    return roles.union(*(_IMPLIED.get(role, ()) for role in roles))
