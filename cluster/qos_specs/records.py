"""The table of QoS specs. Times are wire times (`cluster.outside.stamp`)."""

from __future__ import annotations

from enum import StrEnum

from sqlalchemy import JSON, Column
from sqlmodel import Field, SQLModel


class Consumer(StrEnum):
    """Who enforces a spec: the consumer's side, the storage's side, or each its part."""

    FRONT_END = "front-end"
    BACK_END = "back-end"
    BOTH = "both"


class QosSpec(SQLModel, table=True):
    """Named limits. `specs` are Cinder's free keys, such as `total_iops_sec`, with text for values. Volume types name
    theirs in `volume_type.qos_specs_id`."""

    __tablename__ = "qos_spec"

    id: str = Field(primary_key=True, max_length=36)
    name: str = Field(max_length=255, unique=True)
    consumer: str = Field(max_length=16)
    specs: dict[str, str] = Field(default_factory=dict, sa_column=Column(JSON, nullable=False))
    created_at: str = Field(max_length=26)
    updated_at: str | None = Field(default=None, max_length=26)
