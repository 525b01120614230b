"""Getting, showing and giving back tokens: `/auth/…`."""

from __future__ import annotations

from cluster.identity import intents, queries
from cluster.identity.queries import Row, Standing
from serve_app.identity import schemas, views
from serve_app.identity.catalog import catalog
from serve_app.identity.embedded import Session
from serve_app.identity.operation import (
    Access,
    IdentityCall,
    IdentityFault,
    Operation,
    forbidden,
    not_found,
    unauthorized,
)
from serve_app.identity.tokens import Claims, new_audit_id
from serve_app.wire.route import Reply

_VARY = {"Vary": "X-Auth-Token"}


async def create(call: IdentityCall) -> Reply:
    """`POST /auth/tokens`."""
    auth: schemas.Auth = call.body.auth
    now = int(call.room.outside.seconds())
    expires_at = now + call.room.settings.identity.token_seconds
    audit_ids: tuple[str, ...] = (new_audit_id(),)
    identity = auth.identity
    if identity.methods == ["password"] and identity.password is not None:
        row = await _by_password(call, identity.password.user)
        user_id, generation, default = row["id"], row["generation"], row["default_project_id"]
        methods: tuple[str, ...] = ("password",)
    elif identity.methods == ["cluster"] and call.from_cluster:
        row = await _of_cluster(call)
        user_id, generation, default = row["id"], row["generation"], row["default_project_id"]
        methods = ("cluster",)
    elif identity.methods == ["token"] and identity.token is not None:
        parent = await call.authenticator.session(identity.token.id)
        if parent is None:
            raise unauthorized()
        user_id, generation, default = parent.claims.user_id, parent.claims.generation, None
        # A token made from a token must not outlive it.
        expires_at = min(expires_at, parent.claims.expires_at)
        audit_ids += (parent.claims.audit_ids[-1],)
        methods = tuple(dict.fromkeys((*parent.claims.methods, "token")))
    else:
        raise IdentityFault(401, "Attempted to authenticate with an unsupported method.")
    standing = await _standing(call, user_id, auth.scope, default)
    claims = Claims(user_id, standing.project_id, generation, methods, audit_ids, now, expires_at)
    session = Session(claims, standing)
    shown = None if "nocatalog" in call.query else catalog(call.room.settings, standing.project_id)
    return Reply(201, views.token(session, shown), {"X-Subject-Token": call.authenticator.signer.sign(claims), **_VARY})


async def show(call: IdentityCall) -> Reply:
    """`GET` and `HEAD /auth/tokens`: validate the token in X-Subject-Token."""
    subject, token = await _subject(call, "validate_token")
    shown = None if "nocatalog" in call.query else catalog(call.room.settings, subject.standing.project_id)
    return Reply(200, views.token(subject, shown), {"X-Subject-Token": token, **_VARY})


async def revoke(call: IdentityCall) -> Reply:
    """`DELETE /auth/tokens`: the token in X-Subject-Token is worth nothing from now on."""
    subject, _ = await _subject(call, "revoke_token")
    now = call.room.outside.seconds()
    claims = subject.claims
    await call.room.store.write(lambda db: intents.revoke(db, claims.audit_id, float(claims.expires_at), now))
    call.authenticator.forget()
    return Reply(204)


async def show_catalog(call: IdentityCall) -> Reply:
    """`GET /auth/catalog`."""
    items = catalog(call.room.settings, call.session.standing.project_id)
    return Reply(200, {"catalog": items, "links": {"self": f"{call.url}/auth/catalog"}})


async def my_projects(call: IdentityCall) -> Reply:
    """`GET /auth/projects`."""
    user_id = call.session.standing.user_id
    rows = await call.room.store.read(lambda db: queries.projects_of(db, user_id))
    return Reply(200, views.collection(call, "projects", [views.project(call, row) for row in rows]))


async def my_domains(call: IdentityCall) -> Reply:
    """`GET /auth/domains`: roles are had in projects only."""
    return Reply(200, views.collection(call, "domains", []))


async def _by_password(call: IdentityCall, asked: schemas.LoginUser) -> Row:
    row = None
    if asked.id is not None:
        user_id = asked.id
        row = await call.room.store.read(lambda db: queries.user(db, user_id))
    elif asked.name is not None and _is_default(asked.domain):
        name = asked.name
        row = await call.room.store.read(lambda db: queries.user_named(db, name))
    # One key for a name and its id, so that guessing by both is slowed down once.
    key = row["name"] if row is not None else (asked.name or asked.id or "")
    right = await call.passwords.verify(key, row["password_hash"] if row is not None else None, asked.password)
    if not right or row is None or not row["enabled"]:
        raise unauthorized()
    return row


async def _of_cluster(call: IdentityCall) -> Row:
    """The user for programs of the Ray cluster; the cluster's own token is what let them in."""
    name = call.room.settings.identity.cluster_user
    row = await call.room.store.read(lambda db: queries.user_named(db, name)) if name else None
    if row is None or not row["enabled"]:
        raise IdentityFault(401, "The setting identity.cluster_user names no enabled user; log in with a password.")
    return row


async def _standing(
    call: IdentityCall, user_id: str, scope: schemas.Scope | str | None, default: str | None
) -> Standing:
    """What the user is in the project of the scope; without a scope in its default project, if it has a role there."""
    if isinstance(scope, schemas.Scope):
        if scope.project is None:
            if scope.domain is not None or scope.system is not None:
                raise unauthorized()
        else:
            project_id = await _project_id(call, scope.project)
            found = None if project_id is None else await _read(call, user_id, project_id)
            if found is None:
                raise unauthorized()
            return found
    elif scope is None and default is not None:
        found = await _read(call, user_id, default)
        if found is not None:
            return found
    alone = await _read(call, user_id, None)
    if alone is None:
        raise unauthorized()
    return alone


async def _read(call: IdentityCall, user_id: str, project_id: str | None) -> Standing | None:
    return await call.room.store.read(lambda db: queries.standing(db, user_id, project_id))


async def _project_id(call: IdentityCall, asked: schemas.NamedRef) -> str | None:
    if asked.id is not None:
        return asked.id
    if asked.name is None or not _is_default(asked.domain):
        return None
    name = asked.name
    row = await call.room.store.read(lambda db: queries.project_named(db, name))
    return None if row is None else str(row["id"])


async def _subject(call: IdentityCall, what: str) -> tuple[Session, str]:
    token = call.headers.get("x-subject-token")
    if not token:
        raise IdentityFault(400, "The header X-Subject-Token is missing.")
    subject = await call.authenticator.session(token)
    mine = subject is not None and subject.standing.user_id == call.session.standing.user_id
    if not mine and not call.is_admin and "service" not in call.session.standing.roles:
        raise forbidden(what)
    if subject is None:
        raise not_found("token", "the one given is not valid")
    return subject, token


def _is_default(domain: schemas.DomainRef | None) -> bool:
    if domain is None:
        return False
    if domain.id is not None:
        return domain.id == views.DOMAIN["id"]
    return domain.name is not None and domain.name.lower() == "default"


OPERATIONS = (
    Operation("POST", "/auth/tokens", create, Access.ANYONE, schemas.AuthBody),
    Operation("GET", "/auth/tokens", show, Access.TOKEN),
    Operation("HEAD", "/auth/tokens", show, Access.TOKEN),
    Operation("DELETE", "/auth/tokens", revoke, Access.TOKEN),
    Operation("GET", "/auth/catalog", show_catalog, Access.TOKEN),
    Operation("GET", "/auth/projects", my_projects, Access.TOKEN),
    Operation("GET", "/auth/domains", my_domains, Access.TOKEN),
)
