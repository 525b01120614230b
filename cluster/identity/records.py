"""Users, projects, role assignments and revoked tokens of the embedded identity."""

from __future__ import annotations

from sqlmodel import Field, SQLModel


class Project(SQLModel, table=True):
    """A project (Keystone's tenant) of the domain `default`. Ids are 32 hexadecimal digits."""

    __tablename__ = "identity_project"

    id: str = Field(primary_key=True, max_length=64)
    name: str = Field(max_length=64, unique=True)
    description: str = Field(default="", max_length=255)
    enabled: bool = True


class User(SQLModel, table=True):
    """A person or a program. `password_hash` is an argon2 hash. `generation` goes into tokens; raising it makes all
    tokens given out before worthless."""

    __tablename__ = "identity_user"

    id: str = Field(primary_key=True, max_length=64)
    name: str = Field(max_length=255, unique=True)
    password_hash: str = Field(max_length=255)
    default_project_id: str | None = Field(default=None, max_length=64)
    description: str = Field(default="", max_length=255)
    enabled: bool = True
    generation: int = 0


class RoleAssignment(SQLModel, table=True):
    """A role (`reader`, `member`, `admin`, `service`) that a user has in a project."""

    __tablename__ = "identity_assignment"

    user_id: str = Field(primary_key=True, max_length=64, foreign_key="identity_user.id")
    project_id: str = Field(primary_key=True, max_length=64, foreign_key="identity_project.id")
    role: str = Field(primary_key=True, max_length=32)


class RevokedToken(SQLModel, table=True):
    """A token that was given back before its time. `expires_at` (seconds since the epoch) is when it would have ended
    by itself; after that the row says nothing any more and is removed."""

    __tablename__ = "identity_revoked"

    audit_id: str = Field(primary_key=True, max_length=64)
    expires_at: float = Field(index=True)
