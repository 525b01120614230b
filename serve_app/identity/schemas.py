"""Request bodies of the embedded Keystone. Unknown keys are ignored, as Keystone does."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import ConfigDict, Field

from serve_app.identity.tokens import LONGEST
from serve_app.wire.fields import Description255, RequiredName255
from serve_app.wire.route import Body

Password = Annotated[str, Field(min_length=1, max_length=4096)]
ProjectName = Annotated[RequiredName255, Field(max_length=64)]
# What a caller without a token may send to be looked up: no longer than what can be stored.
GivenId = Annotated[str, Field(max_length=64)]
GivenName = Annotated[str, Field(max_length=255)]


class Open(Body):
    """A body that may hold more than is read."""

    model_config = ConfigDict(extra="ignore", frozen=True, strict=True)


class DomainRef(Open):
    """A domain by id or name."""

    id: GivenId | None = None
    name: GivenName | None = None


class NamedRef(Open):
    """A user or a project by id, or by name and domain."""

    id: GivenId | None = None
    name: GivenName | None = None
    domain: DomainRef | None = None


class LoginUser(NamedRef):
    """Who logs in."""

    password: str = Field(max_length=4096)


class PasswordMethod(Open):
    """Log in with a password."""

    user: LoginUser


class TokenMethod(Open):
    """Log in with a token."""

    id: str = Field(max_length=LONGEST)


class Identity(Open):
    """How to log in."""

    methods: list[str] = Field(max_length=16)
    password: PasswordMethod | None = None
    token: TokenMethod | None = None


class Scope(Open):
    """What the token is to be for."""

    project: NamedRef | None = None
    domain: Any = None
    system: Any = None


class Auth(Open):
    """A login. A scope that is a string (`unscoped`) or absent asks for no project."""

    identity: Identity
    scope: Scope | str | None = None


class AuthBody(Open):
    """`POST /auth/tokens`."""

    auth: Auth


class UserCreate(Open):
    """A new user."""

    name: RequiredName255
    password: Password | None = None
    default_project_id: str | None = Field(default=None, max_length=64)
    description: Description255 | None = None
    enabled: bool = True
    domain_id: str | None = None


class UserUpdate(Open):
    """What of a user may change."""

    name: RequiredName255 | None = None
    password: Password | None = None
    default_project_id: str | None = Field(default=None, max_length=64)
    description: Description255 | None = None
    enabled: bool | None = None


class UserCreateBody(Open):
    """`POST /users`."""

    user: UserCreate


class UserUpdateBody(Open):
    """`PATCH /users/{user_id}`."""

    user: UserUpdate


class PasswordChange(Open):
    """The old and the new password."""

    original_password: str = Field(max_length=4096)
    password: Password


class PasswordChangeBody(Open):
    """`POST /users/{user_id}/password`."""

    user: PasswordChange


class ProjectCreate(Open):
    """A new project."""

    name: ProjectName
    description: Description255 | None = None
    enabled: bool = True
    domain_id: str | None = None


class ProjectUpdate(Open):
    """What of a project may change."""

    name: ProjectName | None = None
    description: Description255 | None = None
    enabled: bool | None = None


class ProjectCreateBody(Open):
    """`POST /projects`."""

    project: ProjectCreate


class ProjectUpdateBody(Open):
    """`PATCH /projects/{project_id}`."""

    project: ProjectUpdate
