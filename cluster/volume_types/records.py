"""Volume types, who may use the private ones, and the default type of a project."""

from __future__ import annotations

from sqlalchemy import JSON, Column
from sqlmodel import Field, SQLModel


class VolumeType(SQLModel, table=True):
    """A kind of volume that an administrator offers. `extra_specs` are what the scheduler asks of a pool."""

    __tablename__ = "volume_type"

    id: str = Field(primary_key=True, max_length=36)
    name: str = Field(max_length=255, unique=True)
    description: str | None = Field(default=None, max_length=255)
    is_public: bool = True
    extra_specs: dict[str, str] = Field(default_factory=dict, sa_column=Column(JSON, nullable=False))
    qos_specs_id: str | None = Field(default=None, max_length=36)
    created_at: str = Field(max_length=26)
    updated_at: str | None = Field(default=None, max_length=26)


class VolumeTypeAccess(SQLModel, table=True):
    """A project that may use a private type."""

    __tablename__ = "volume_type_access"

    volume_type_id: str = Field(primary_key=True, max_length=36, foreign_key="volume_type.id")
    project_id: str = Field(primary_key=True, max_length=255)


class DefaultType(SQLModel, table=True):
    """The type a project's volumes get when none is asked for."""

    __tablename__ = "default_type"

    project_id: str = Field(primary_key=True, max_length=255)
    volume_type_id: str = Field(max_length=36, foreign_key="volume_type.id")
