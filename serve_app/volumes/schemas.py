"""Request bodies of the volume routes and the shapes of their replies (json_shapes §2, §3).

Bodies are read with the same strictness as Cinder's: what 3.53 refuses, older versions ignore. Reply models are for
the OpenAPI document only; `views` builds the replies.
"""

from __future__ import annotations

from typing import Annotated, Any, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema, model_validator

from serve_app.wire.fields import (
    Metadata,
    NullableDescription255,
    NullableName255,
    NullableString255,
    OneMetadataItem,
    SizeGib,
    StrictBoolean,
    Uuid,
    refusal,
)
from serve_app.wire.route import Body

_NAMES = ("name", "display_name")
_DESCRIPTIONS = ("description", "display_description")


def _uuids(value: object) -> object:
    return [value] if isinstance(value, str) else value


_UUID_SCHEMA: dict[str, Any] = {"type": "string", "format": "uuid"}
_VolumeIds = Annotated[
    list[Uuid],
    BeforeValidator(_uuids),
    WithJsonSchema({"anyOf": [_UUID_SCHEMA, {"type": "array", "items": _UUID_SCHEMA}]}),
]


class SchedulerHints(Body):
    """Where the volume should be placed: other volumes' ids, a JSON query, and whatever a filter understands."""

    model_config = ConfigDict(extra="allow")

    same_host: _VolumeIds | None = None
    different_host: _VolumeIds | None = None
    query: str | dict[str, Any] | None = None

    def given(self) -> dict[str, object]:
        """The hints that were given."""
        return self.model_dump(exclude_unset=True)


class Named(Body):
    """The names a client may use for name and description; `name` wins over `display_name`."""

    name: NullableName255 = None
    description: NullableDescription255 = None
    display_name: NullableName255 = None
    display_description: NullableDescription255 = None

    def changes(self) -> dict[str, object]:
        """Columns and what they are to be, for those that were given."""
        given = self.model_fields_set
        named = {"name": next((getattr(self, key) for key in _NAMES if key in given), None)}
        described = {"description": next((getattr(self, key) for key in _DESCRIPTIONS if key in given), None)}
        return (named if given & {*_NAMES} else {}) | (described if given & {*_DESCRIPTIONS} else {})


class VolumeCreate(Named):
    """A volume to be created, up to 3.12. Unknown keys are ignored."""

    model_config = ConfigDict(extra="ignore")

    size: SizeGib | None = None
    volume_type: NullableString255 = None
    metadata: Metadata | None = None
    snapshot_id: Uuid | None = None
    source_volid: Uuid | None = None
    consistencygroup_id: Uuid | None = None
    availability_zone: Annotated[str, Field(min_length=1, max_length=255)] | None = None
    multiattach: StrictBoolean | None = None
    image_id: NullableString255 = None
    image_ref: NullableString255 = Field(default=None, alias="imageRef")


class VolumeCreate13(VolumeCreate):
    """From 3.13: in a group."""

    group_id: NullableString255 = None


class VolumeCreate47(VolumeCreate13):
    """From 3.47: from a backup."""

    backup_id: Uuid | None = None


class VolumeCreate53(VolumeCreate47):
    """From 3.53: unknown keys are refused."""

    model_config = ConfigDict(extra="forbid")


class _Hinted(Body):
    hints: SchedulerHints | None = Field(default=None, alias="OS-SCH-HNT:scheduler_hints")


class CreateBody(_Hinted):
    """`POST /volumes`."""

    volume: VolumeCreate


class CreateBody13(_Hinted):
    """`POST /volumes` from 3.13."""

    volume: VolumeCreate13


class CreateBody47(_Hinted):
    """`POST /volumes` from 3.47."""

    volume: VolumeCreate47


class CreateBody53(_Hinted):
    """`POST /volumes` from 3.53."""

    volume: VolumeCreate53


class VolumeUpdate(Named):
    """What may be changed of a volume without a flow."""

    metadata: Metadata = Field(default_factory=dict)

    def changes(self) -> dict[str, object]:
        """Columns and what they are to be, for those that were given."""
        return super().changes() | ({"user_metadata": self.metadata} if "metadata" in self.model_fields_set else {})


class VolumeUpdate53(VolumeUpdate):
    """From 3.53: at least one of them."""

    model_config = ConfigDict(json_schema_extra={"minProperties": 1})

    @model_validator(mode="after")
    def _one_at_least(self) -> Self:
        if not self.model_fields_set:
            raise refusal("{} is not valid under any of the given schemas")
        return self


class UpdateBody(Body):
    """`PUT /volumes/{id}`."""

    volume: VolumeUpdate


class UpdateBody53(Body):
    """`PUT /volumes/{id}` from 3.53."""

    volume: VolumeUpdate53


class MetadataBody(Body):
    """All metadata, or what is to be added."""

    metadata: Metadata


class MetaBody(Body):
    """One item of the metadata."""

    meta: OneMetadataItem


class VolumeSummary(BaseModel):
    """A volume in the short list."""

    id: str
    name: str | None
    links: list[dict[str, str]]


class VolumeDetail(BaseModel):
    """A volume. Keys that are not required appear from a microversion on, for administrators, or when there is a
    value."""

    id: str
    name: str | None
    description: str | None
    status: str
    size: int
    availability_zone: str | None
    created_at: str
    updated_at: str | None
    volume_type: str | None
    snapshot_id: str | None
    source_volid: str | None
    consistencygroup_id: str | None
    metadata: dict[str, str]
    links: list[dict[str, str]]
    user_id: str
    bootable: str
    encrypted: bool
    multiattach: bool
    replication_status: str | None
    attachments: list[dict[str, Any]]
    migration_status: str | None = None
    host: str | None = Field(default=None, alias="os-vol-host-attr:host")
    tenant_id: str = Field(default="", alias="os-vol-tenant-attr:tenant_id")
    migstat: str | None = Field(default=None, alias="os-vol-mig-status-attr:migstat")
    name_id: str | None = Field(default=None, alias="os-vol-mig-status-attr:name_id")
    volume_image_metadata: dict[str, str] = {}
    group_id: str | None = None
    provider_id: str | None = None
    shared_targets: bool | None = None
    service_uuid: str | None = None
    cluster_name: str | None = None
    volume_type_id: str | None = None
    encryption_key_id: str = ""
    consumes_quota: bool = True


class VolumeReply(BaseModel):
    """One volume."""

    volume: VolumeDetail


class VolumesReply(BaseModel):
    """A page of the short list."""

    volumes: list[VolumeSummary]
    volumes_links: list[dict[str, str]] = []
    count: int = 0


class VolumesDetailReply(BaseModel):
    """A page of volumes."""

    volumes: list[VolumeDetail]
    volumes_links: list[dict[str, str]] = []
    count: int = 0


class Totals(BaseModel):
    """Number and size (GiB) of all volumes, and the values of each metadata key (from 3.36)."""

    total_count: int
    total_size: int
    metadata: dict[str, list[str]] = {}


class TotalsReply(BaseModel):
    """`GET /volumes/summary`."""

    totals: Totals = Field(alias="volume-summary")


class MetadataReply(BaseModel):
    """All metadata."""

    metadata: dict[str, str]


class MetaReply(BaseModel):
    """One item of the metadata."""

    meta: dict[str, str]


class EncryptionReply(BaseModel):
    """How a volume is encrypted; of one that is not, only the null key id."""

    encryption_key_id: str | None
