"""Bodies of service requests, and the shapes of the answers."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import BaseModel, Field, model_validator

from serve_app.wire.fields import NullableString255, RequiredName255, refusal
from serve_app.wire.route import Body

Binary = Annotated[str, Field(min_length=1, max_length=255)]
HostName = Annotated[str, Field(min_length=1, max_length=255, pattern=r"^[a-zA-Z0-9._#@:/+\[\]-]*$")]


class WhichService(Body):
    """A service: its host and its binary (or `service`, the older key; `binary` goes first). `cluster` is ignored."""

    host: HostName | None = None
    binary: Binary = ""
    service: Binary = ""
    cluster: NullableString255 = None

    @model_validator(mode="after")
    def _named(self) -> Self:
        if not self.binary and not self.service:
            raise refusal("'binary' is a required property")
        return self


class DisableWithReason(WhichService):
    """PUT /os-services/disable-log-reason."""

    disabled_reason: RequiredName255 | None = None


class ServiceItem(BaseModel):
    """A service. The last five keys but `cluster` are those of volume services."""

    binary: str
    host: str
    zone: str
    status: str
    state: str
    updated_at: str | None
    disabled_reason: str | None
    cluster: str | None = None
    replication_status: str | None = None
    active_backend_id: str | None = None
    frozen: bool = False
    backend_state: str | None = None


class ServicesReply(BaseModel):
    """Services."""

    services: list[ServiceItem]


class ChangeReply(BaseModel):
    """A service and its new status."""

    host: str
    service: str
    binary: str
    status: str
    disabled: bool


class ReasonReply(ChangeReply):
    """A service, its new status and why."""

    disabled_reason: str | None
