"""Bodies of volume type requests, and the shapes of the answers."""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, Field, RootModel, WithJsonSchema

from serve_app.wire.fields import (
    METADATA_KEY,
    NullableDescription255,
    NullableName255,
    RequiredName255,
    StrictBoolean,
    refusal,
)
from serve_app.wire.route import Body

# Cinder has no "/" here (only at the creation of a type); labels of Ray nodes, as `label:ray.io/zone`, need it.
_LATER_KEY = re.compile(r"[a-zA-Z0-9\-_:./]{1,255}")
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")


def _specs(value: object, key_pattern: re.Pattern[str]) -> dict[str, str]:
    if not isinstance(value, dict):
        raise refusal("extra_specs is not of type 'object'")
    specs: dict[str, str] = {}
    for key, text in value.items():
        if not key_pattern.fullmatch(key):
            raise refusal(f"{key[:300]!r} does not match any of the regexes: '^{key_pattern.pattern}$'")
        if text is not None and not isinstance(text, str):
            raise refusal(f"the value of {key!r} is not of type 'string', 'null'")
        if text is not None and (len(text) > 255 or _CONTROL.search(text)):
            raise refusal(f"the value of {key!r} is too long or contains control characters")
        specs[key] = text or ""  # null is stored as the empty string: the scheduler compares texts
    return specs


def _schema(keys: str, **more: Any) -> WithJsonSchema:
    values = {
        "type": ["string", "null"],
        "maxLength": 255,
        "pattern": r"^[^\u0000-\u0008\u000b\u000c\u000e-\u001f\u007f]*$",
    }
    return WithJsonSchema(
        {"type": "object", "propertyNames": {"pattern": keys}, "additionalProperties": values, **more}
    )


def _one(value: dict[str, str]) -> dict[str, str]:
    if len(value) != 1:
        raise refusal("exactly one extra spec is expected")
    return value


def _later(value: object) -> dict[str, str]:
    return _specs(value, _LATER_KEY)


FirstSpecs = Annotated[
    dict[str, str],
    BeforeValidator(lambda value: _specs(value, METADATA_KEY)),
    _schema(r"^[a-zA-Z0-9_:. /-]{1,255}$"),
]
LaterSpecs = Annotated[dict[str, str], BeforeValidator(_later), _schema(r"^[a-zA-Z0-9_:./-]{1,255}$")]
OneSpec = Annotated[
    dict[str, str],
    BeforeValidator(_later),
    AfterValidator(_one),
    _schema(r"^[a-zA-Z0-9_:./-]{1,255}$", minProperties=1, maxProperties=1),
]


class NewType(Body):
    """A type to make."""

    name: RequiredName255
    description: NullableDescription255 = None
    extra_specs: FirstSpecs = Field(default_factory=dict)
    is_public: StrictBoolean = Field(default=True, alias="os-volume-type-access:is_public")


class CreateType(Body):
    """POST /types."""

    volume_type: NewType


class TypeChanges(Body):
    """What to change; null leaves a thing as it is."""

    name: NullableName255 = None
    description: NullableDescription255 = None
    is_public: StrictBoolean | None = None


class UpdateType(Body):
    """PUT /types/{id}."""

    volume_type: TypeChanges


class SetSpecs(Body):
    """POST /types/{id}/extra_specs."""

    extra_specs: LaterSpecs


class SetOneSpec(RootModel[OneSpec]):
    """PUT /types/{id}/extra_specs/{key}: the key and its value."""


class ProjectAccess(Body):
    """addProjectAccess and removeProjectAccess."""

    project: Annotated[str, Field(min_length=1, max_length=255)]


class TypeView(BaseModel):
    """A volume type."""

    id: str
    name: str
    is_public: bool
    description: str | None
    extra_specs: dict[str, str] = Field(default_factory=dict)
    qos_specs_id: str | None = None
    access_is_public: bool = Field(default=True, alias="os-volume-type-access:is_public")


class TypeReply(BaseModel):
    """One type."""

    volume_type: TypeView


class TypesReply(BaseModel):
    """Types."""

    volume_types: list[TypeView]
    volume_type_links: list[dict[str, str]] = Field(default_factory=list)


class SpecsReply(BaseModel):
    """Extra specs of a type."""

    extra_specs: dict[str, str | None]


class OneSpecReply(RootModel[dict[str, str | None]]):
    """One extra spec."""


class AccessItem(BaseModel):
    """A project that may use a type."""

    volume_type_id: str
    project_id: str


class AccessReply(BaseModel):
    """The projects that may use a type."""

    volume_type_access: list[AccessItem]


class EncryptionReply(BaseModel):
    """The encryption of a type: nothing, while no type is encrypted."""
