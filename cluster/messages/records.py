"""The user message table."""

from __future__ import annotations

from sqlalchemy import Index
from sqlmodel import Field, SQLModel


class Message(SQLModel, table=True):
    """Why something failed. `expires_at` is seconds since the epoch; after it the message may be removed."""

    __tablename__ = "message"
    __table_args__ = (
        Index("message_by_project", "project_id", "created_at", "id"),
        Index("message_by_resource", "resource_uuid"),
        Index("message_by_expiry", "expires_at"),
    )

    id: str = Field(primary_key=True, max_length=36)
    project_id: str = Field(max_length=255)
    request_id: str = Field(max_length=64)
    resource_type: str | None = Field(default=None, max_length=32)
    resource_uuid: str | None = Field(default=None, max_length=36)
    action_id: str = Field(max_length=8)
    detail_id: str = Field(max_length=8)
    event_id: str = Field(max_length=64)
    user_message: str = Field(max_length=1024)
    message_level: str = Field(default="ERROR", max_length=16)
    created_at: str = Field(max_length=26)
    guaranteed_until: str = Field(max_length=26)
    expires_at: float
