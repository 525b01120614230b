"""Bodies of QoS spec requests, and the shapes of the answers."""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema
from pydantic.config import JsonDict

from serve_app.wire.fields import METADATA_KEY, RequiredName255, refusal
from serve_app.wire.route import Body

_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
_ANY_KEY = re.compile(r"[^\x00-\x1f\x7f]{1,255}")
_VALUE: JsonDict = {
    "type": ["string", "null"],
    "maxLength": 255,
    "pattern": r"^[^\u0000-\u0008\u000b\u000c\u000e-\u001f\u007f]*$",
}


def _pairs(value: object, keys: re.Pattern[str]) -> dict[str, str | None]:
    if not isinstance(value, dict):
        raise refusal("qos_specs is not of type 'object'")
    for key, text in value.items():
        if not keys.fullmatch(key):
            raise refusal(f"{key[:300]!r} does not match any of the regexes: '^{keys.pattern}$'")
        if text is not None and not isinstance(text, str):
            raise refusal(f"the value of {key!r} is not of type 'string', 'null'")
        if text is not None and (len(text) > 255 or _CONTROL.search(text)):
            raise refusal(f"the value of {key!r} is too long or contains control characters")
    return value


def _free(value: object) -> object:
    if isinstance(value, dict):
        _pairs({key: text for key, text in value.items() if key != "name"}, _ANY_KEY)
    return value


def _unique(value: list[str]) -> list[str]:
    if len(set(value)) != len(value):
        raise refusal(f"{value!r}"[:255] + " has non-unique elements")
    return value


class NewSpec(Body):
    """Specs to make: every key but these two is a limit."""

    model_config = ConfigDict(extra="allow", json_schema_extra={"additionalProperties": _VALUE})

    name: RequiredName255
    consumer: str | None = None

    def specs(self) -> dict[str, str]:
        """The limits. Null is stored as the empty string, as in a type's extra specs."""
        return {key: value or "" for key, value in (self.model_extra or {}).items()}


class CreateSpec(Body):
    """POST /qos-specs."""

    qos_specs: Annotated[NewSpec, BeforeValidator(_free)]


Changes = Annotated[
    dict[str, str | None],
    BeforeValidator(lambda value: _pairs(value, METADATA_KEY)),
    WithJsonSchema(
        {
            "type": "object",
            "propertyNames": {"pattern": r"^[a-zA-Z0-9_:. /-]{1,255}$"},
            "properties": {"consumer": {"enum": ["front-end", "back-end", "both", None]}},
            "additionalProperties": _VALUE,
        }
    ),
]


class UpdateSpec(Body):
    """PUT /qos-specs/{id}."""

    qos_specs: Changes


class DeleteKeys(Body):
    """PUT /qos-specs/{id}/delete_keys."""

    keys: Annotated[
        list[Annotated[str, Field(min_length=1, max_length=255)]],
        AfterValidator(_unique),
        Field(json_schema_extra={"uniqueItems": True}),
    ]


class SpecView(BaseModel):
    """QoS specs."""

    id: str
    name: str
    consumer: str
    specs: dict[str, str]


class SpecReply(BaseModel):
    """One."""

    qos_specs: SpecView
    links: list[dict[str, str]]


class SpecsReply(BaseModel):
    """Several."""

    qos_specs: list[SpecView]
    qos_specs_links: list[dict[str, str]] = Field(default_factory=list)


class ChangedReply(BaseModel):
    """What was sent."""

    qos_specs: dict[str, Any]


class AssociationView(BaseModel):
    """A volume type that has the specs."""

    association_type: str
    name: str
    id: str


class AssociationsReply(BaseModel):
    """The volume types that have the specs."""

    qos_associations: list[AssociationView]
