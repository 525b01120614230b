"""The journal's tables: operations, their finished steps, leases."""

from __future__ import annotations

from enum import StrEnum

from sqlalchemy import JSON, BigInteger, Column, Index, text
from sqlmodel import Field, SQLModel


class OperationState(StrEnum):
    """An operation is LIVE until it is done or failed; the journal drives live ones only."""

    LIVE = "live"
    DONE = "done"
    FAILED = "failed"


class Operation(SQLModel, table=True):
    """One intent. At most one is live for a resource (a partial unique index sees to it).

    `epoch` is that of the conductor's lease which last drove it; every later write says `WHERE epoch <= mine`.
    `attempts` counts what did not work, for the back-off, and `refusals` those of them that surely did nothing.
    `uncertain`: once a call's outcome was not known, so that refusals prove nothing any more. `not_before` (seconds
    since the epoch) delays a retry. `failing` holds the final error while the undo runs.
    """

    __tablename__ = "operation"
    __table_args__ = (
        Index(
            "operation_one_live",
            "resource_id",
            unique=True,
            sqlite_where=text("state = 'live'"),
            postgresql_where=text("state = 'live'"),
        ),
        Index(
            "operation_queue",
            "created_at",
            sqlite_where=text("state = 'live'"),
            postgresql_where=text("state = 'live'"),
        ),
        Index("operation_by_time", "finished_at"),
    )

    id: str = Field(primary_key=True, max_length=36)
    kind: str = Field(max_length=64)
    resource_id: str = Field(max_length=36)
    project_id: str = Field(max_length=255)
    user_id: str = Field(max_length=255)
    request_id: str = Field(max_length=64)
    args: dict[str, object] = Field(default_factory=dict, sa_column=Column(JSON, nullable=False))
    state: str = Field(default=OperationState.LIVE.value, max_length=16)
    epoch: int = Field(default=0, sa_type=BigInteger)
    attempts: int = 0
    refusals: int = 0
    uncertain: bool = False
    not_before: float = 0.0
    failing: dict[str, str] | None = Field(default=None, sa_column=Column(JSON(none_as_null=True)))
    error: str | None = Field(default=None, max_length=2048)
    created_at: str = Field(max_length=26)
    finished_at: str | None = Field(default=None, max_length=26)


class OperationStep(SQLModel, table=True):
    """A finished step and what it returned."""

    __tablename__ = "operation_step"

    operation_id: str = Field(primary_key=True, max_length=36, foreign_key="operation.id", ondelete="CASCADE")
    name: str = Field(primary_key=True, max_length=64)
    seq: int
    result: dict[str, object] | None = Field(default=None, sa_column=Column(JSON(none_as_null=True)))
    finished_at: str = Field(max_length=26)


class Lease(SQLModel, table=True):
    """Who may act under a name, until when (seconds since the epoch), and in which epoch. The epoch only grows."""

    __tablename__ = "lease"

    name: str = Field(primary_key=True, max_length=255)
    epoch: int = Field(sa_type=BigInteger)
    holder: str = Field(max_length=255)
    expires_at: float
