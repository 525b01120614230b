"""Bodies of requests about attachments, and the shapes of the answers. What Cinder's schemas let pass and the code
behind them breaks on (a connector that is a string) is refused here."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    RootModel,
    WithJsonSchema,
    model_validator,
)

from serve_app.wire.fields import Uuid, refusal
from serve_app.wire.route import Body


def _not_null(value: object) -> object:
    if value is None:
        raise refusal("None is not of type 'string'")
    return value


def _host_fits(connector: dict[str, Any]) -> dict[str, Any]:
    host = connector.get("host") or ""
    if not isinstance(host, str):
        raise refusal("'host' of the connector is not of type 'string'")
    if len(host) > _LONGEST_HOST:
        raise refusal(f"'host' of the connector is too long (at most {_LONGEST_HOST} characters)")
    return connector


_LONGEST_HOST: Final = 255
Connector = dict[str, Any]
# Of an attachment, which shows the host.
NamedConnector = Annotated[Connector, AfterValidator(_host_fits)]
Mode = Literal["rw", "ro"]
# May be left out, but not be null.
UuidIfGiven = Annotated[Uuid | None, BeforeValidator(_not_null), WithJsonSchema({"type": "string", "format": "uuid"})]
ModeIfGiven = Annotated[
    Mode | None, BeforeValidator(_not_null), WithJsonSchema({"type": "string", "enum": ["rw", "ro"]})
]
TextIfGiven = Annotated[
    Annotated[str, Field(max_length=255)] | None,
    BeforeValidator(_not_null),
    WithJsonSchema({"type": "string", "maxLength": 255}),
]


class NewAttachment(Body):
    """An attachment to make. Without a connector (null and `{}` too) it only reserves the volume."""

    volume_uuid: Uuid
    instance_uuid: UuidIfGiven = None
    connector: NamedConnector | None = None

    def asked_mode(self) -> Mode | None:
        """The mode, where the microversion knows one."""
        return None


class NewAttachment54(NewAttachment):
    """From 3.54 on, with a mode."""

    mode: ModeIfGiven = None

    def asked_mode(self) -> Mode | None:
        return self.mode


class CreateAttachment(Body):
    """POST /attachments."""

    attachment: NewAttachment


class CreateAttachment54(Body):
    """POST /attachments, from 3.54."""

    attachment: NewAttachment54


class GivenConnector(Body):
    """Who connects."""

    connector: Annotated[Connector, Field(min_length=1), AfterValidator(_host_fits)]


class UpdateAttachment(Body):
    """PUT /attachments/{id}."""

    attachment: GivenConnector


class Attach(Body):
    """os-attach."""

    model_config = ConfigDict(
        json_schema_extra={"anyOf": [{"required": ["instance_uuid"]}, {"required": ["host_name"]}]}
    )

    instance_uuid: UuidIfGiven = None
    host_name: TextIfGiven = None
    mountpoint: Annotated[str, Field(min_length=1, max_length=255)]
    mode: Mode = "rw"

    @model_validator(mode="after")
    def _somebody(self) -> Self:
        if self.instance_uuid is None and self.host_name is None:
            raise refusal("'instance_uuid' is a required property, or 'host_name' is")
        return self


class DetachWhat(Body):
    """The attachment to end; none where there is only one."""

    attachment_id: Uuid | None = None


class Detach(RootModel[DetachWhat | None]):
    """os-detach; null is `{}`."""


class Initialize(Body):
    """os-initialize_connection."""

    connector: Connector


class Terminate(Body):
    """os-terminate_connection; null is every consumer."""

    connector: Connector | None


class ForceDetach(Body):
    """os-force_detach."""

    attachment_id: Annotated[str, Field(max_length=255)] | None = None
    connector: Connector | None = None


class AttachmentSummary(BaseModel):
    """An attachment, short."""

    id: str
    status: str
    instance: str | None
    volume_id: str


class AttachmentView(AttachmentSummary):
    """An attachment. The times are empty strings while there are none."""

    attached_at: str
    detached_at: str
    attach_mode: str
    connection_info: dict[str, Any]


class AttachmentReply(BaseModel):
    """One."""

    attachment: AttachmentView


class AttachmentsReply(BaseModel):
    """Several, short."""

    attachments: list[AttachmentSummary]


class AttachmentsDetailReply(BaseModel):
    """Several."""

    attachments: list[AttachmentView]


class NestedInfo(BaseModel):
    """How to connect, for the older flow."""

    driver_volume_type: str
    data: dict[str, Any]
    enforce_multipath: bool


class InfoReply(BaseModel):
    """What os-initialize_connection answers."""

    connection_info: NestedInfo
