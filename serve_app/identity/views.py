"""Wire shapes of the embedded Keystone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from cluster.identity.queries import Row
from cluster.identity.roles import IDS
from serve_app.identity.embedded import Session
from serve_app.identity.operation import IdentityCall

DOMAIN: Mapping[str, str] = {"id": "default", "name": "Default"}


def collection(call: IdentityCall, name: str, items: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """A list, whole: there is no paging."""
    return {name: list(items), "links": {"self": f"{call.url}/{name}", "previous": None, "next": None}}


def user(call: IdentityCall, row: Row) -> dict[str, Any]:
    """A user."""
    view = {
        "id": row["id"],
        "name": row["name"],
        "domain_id": DOMAIN["id"],
        "description": row["description"],
        "enabled": row["enabled"],
        "options": {},
        "password_expires_at": None,
        "links": {"self": f"{call.url}/users/{row['id']}"},
    }
    if row["default_project_id"] is not None:
        view["default_project_id"] = row["default_project_id"]
    return view


def project(call: IdentityCall, row: Row) -> dict[str, Any]:
    """A project."""
    return {
        "id": row["id"],
        "name": row["name"],
        "domain_id": DOMAIN["id"],
        "parent_id": DOMAIN["id"],
        "is_domain": False,
        "description": row["description"],
        "enabled": row["enabled"],
        "tags": [],
        "options": {},
        "links": {"self": f"{call.url}/projects/{row['id']}"},
    }


def role(call: IdentityCall, name: str) -> dict[str, Any]:
    """A role."""
    return {
        "id": IDS[name],
        "name": name,
        "domain_id": None,
        "description": None,
        "options": {},
        "links": {"self": f"{call.url}/roles/{IDS[name]}"},
    }


def assignment(call: IdentityCall, row: Row, role_name: str, names: bool) -> dict[str, Any]:
    """A role assignment, with names if they are asked for."""
    role_ref: dict[str, Any] = {"id": IDS[role_name]}
    user_ref: dict[str, Any] = {"id": row["user_id"]}
    project_ref: dict[str, Any] = {"id": row["project_id"]}
    if names:
        role_ref["name"] = role_name
        user_ref |= {"name": row["user_name"], "domain": DOMAIN}
        project_ref |= {"name": row["project_name"], "domain": DOMAIN}
    link = f"{call.url}/projects/{row['project_id']}/users/{row['user_id']}/roles/{IDS[row['role']]}"
    return {"role": role_ref, "user": user_ref, "scope": {"project": project_ref}, "links": {"assignment": link}}


def token(session: Session, catalog: Sequence[Mapping[str, Any]] | None) -> dict[str, Any]:
    """What `POST /auth/tokens` and the validation of a token answer."""
    claims, standing = session.claims, session.standing
    view: dict[str, Any] = {
        "methods": list(claims.methods),
        "user": {
            "id": standing.user_id,
            "name": standing.user_name,
            "domain": DOMAIN,
            "password_expires_at": None,
        },
        "audit_ids": list(claims.audit_ids),
        "issued_at": _time(claims.issued_at),
        "expires_at": _time(claims.expires_at),
    }
    if standing.project_id is not None:
        view["is_domain"] = False
        view["project"] = {"id": standing.project_id, "name": standing.project_name, "domain": DOMAIN}
        view["roles"] = [{"id": IDS[name], "name": name} for name in sorted(standing.roles)]
        if catalog is not None:
            view["catalog"] = list(catalog)
    return {"token": view}


def _time(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S.000000Z")
