"""Quota limits. Usage has no table: it is counted from the resources in the transaction that needs it."""

from __future__ import annotations

from sqlmodel import Field, SQLModel


class QuotaLimit(SQLModel, table=True):
    """A project's own limit; -1 is unlimited. `resource` is `volumes`, `gigabytes`, … or `<resource>_<type name>`
    held as `<resource>:<type id>`, so that renaming a type loses nothing."""

    __tablename__ = "quota_limit"

    project_id: str = Field(primary_key=True, max_length=255)
    resource: str = Field(primary_key=True, max_length=300)
    hard_limit: int


class QuotaClassLimit(SQLModel, table=True):
    """A limit of a class; the class `default` holds the limits of projects that have none of their own."""

    __tablename__ = "quota_class_limit"

    class_name: str = Field(primary_key=True, max_length=255)
    resource: str = Field(primary_key=True, max_length=300)
    hard_limit: int
