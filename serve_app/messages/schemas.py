"""The shapes of user messages."""

from __future__ import annotations

from pydantic import BaseModel, Field


class MessageView(BaseModel):
    """Why something failed."""

    id: str
    event_id: str
    user_message: str
    message_level: str
    created_at: str
    guaranteed_until: str | None
    request_id: str
    links: list[dict[str, str]]
    resource_type: str = ""
    resource_uuid: str = ""


class MessageReply(BaseModel):
    """One message."""

    message: MessageView


class MessagesReply(BaseModel):
    """Messages."""

    messages: list[MessageView]
    messages_links: list[dict[str, str]] = Field(default_factory=list)
