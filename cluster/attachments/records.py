"""The tables of attachments and connections. Times are wire times (`cluster.outside.stamp`).

An *attachment* is a consumer's claim to a volume, as Cinder's API shows it. A *connection* is what an export lets in:
one consumer (its connector) that can reach the volume's bytes. An attachment has at most one, under its own id; the
older actions `os-initialize_connection` and `os-terminate_connection` make one without an attachment. Every connection
whose `info` is set is to exist on the volume's host, also after a crash or a reboot there.
"""

from __future__ import annotations

from sqlalchemy import JSON, Column, Index
from sqlmodel import Field, SQLModel


class Attachment(SQLModel, table=True):
    """One attachment; a detached one has no row. `attach_mode` is `rw`, `ro`, or None while it is not known;
    `connection_info` is what a client gets (flat, as the attachments API shows it)."""

    __tablename__ = "attachment"
    __table_args__ = (
        Index("attachment_by_project", "project_id", "created_at", "id"),
        Index("attachment_by_time", "created_at", "id"),
        Index("attachment_by_volume", "volume_id"),
    )

    id: str = Field(primary_key=True, max_length=36)
    volume_id: str = Field(max_length=36, foreign_key="volume.id")
    project_id: str = Field(max_length=255)
    user_id: str = Field(max_length=255)
    instance_id: str | None = Field(default=None, max_length=36)
    attached_host: str | None = Field(default=None, max_length=255)
    mountpoint: str | None = Field(default=None, max_length=255)
    attach_mode: str | None = Field(default=None, max_length=8)
    attach_status: str = Field(max_length=32)
    connector: dict[str, object] | None = Field(default=None, sa_column=Column(JSON(none_as_null=True)))
    connection_info: dict[str, object] | None = Field(default=None, sa_column=Column(JSON(none_as_null=True)))
    attached_at: str | None = Field(default=None, max_length=26)
    created_at: str = Field(max_length=26)
    updated_at: str | None = Field(default=None, max_length=26)


class VolumeConnection(SQLModel, table=True):
    """One consumer that an export lets in. `secret` (hexadecimal) is what its password or key is made of and never
    leaves the control side but to the export and the consumer. `info` is None until the export was made:
    `{"driver_volume_type": str, "data": {…}}`. `consumer` says who it is among the volume's connections."""

    __tablename__ = "volume_connection"
    __table_args__ = (Index("volume_connection_by_volume", "volume_id", "consumer", unique=True),)

    id: str = Field(primary_key=True, max_length=36)
    volume_id: str = Field(max_length=36, foreign_key="volume.id")
    consumer: str = Field(max_length=255)
    connector: dict[str, object] = Field(default_factory=dict, sa_column=Column(JSON, nullable=False))
    mode: str = Field(max_length=8)
    secret: str = Field(max_length=64)
    info: dict[str, object] | None = Field(default=None, sa_column=Column(JSON(none_as_null=True)))
    created_at: str = Field(max_length=26)
