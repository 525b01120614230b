"""Bodies of quota requests, and the shapes of the answers. Keys are `volumes`, `gigabytes`, … and those of the volume
types (`volumes_<type>`), which only the database knows; so they are checked there."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, Field, RootModel, WithJsonSchema

from serve_app.wire.fields import MAX_INTEGER, refusal
from serve_app.wire.route import Body

# Keys that clients send along and that limit nothing.
IGNORED = ("tenant_id", "id")
_LIMIT: dict[str, Any] = {
    "anyOf": [
        {"type": "integer", "minimum": -1, "maximum": MAX_INTEGER},
        {"type": "string", "pattern": "^(-1|[0-9]{1,9})$"},
    ]
}


def _limit(key: str, value: object) -> int:
    text = str(value).strip() if isinstance(value, int | str) and not isinstance(value, bool) else ""
    digits = text.removeprefix("-")
    if not (digits.isascii() and digits.isdigit() and len(digits) <= 20):
        raise refusal(f"{key} must be an integer.")
    number = int(text)
    if number < -1:
        raise refusal(f"{key} must be >= -1")
    if number > MAX_INTEGER:
        raise refusal(f"{key} must be <= {MAX_INTEGER}")
    return number


def _limits(value: object) -> dict[str, int]:
    if not isinstance(value, dict):
        raise refusal("a quota set is an object")
    if not value:
        raise refusal("{} does not have enough properties")
    return {key: _limit(key, limit) for key, limit in value.items() if key not in IGNORED}


def _class_limits(value: object) -> dict[str, int]:
    if not isinstance(value, dict):
        raise refusal("a quota class set is an object")
    return {key: _limit(key, limit) for key, limit in value.items()}


class UpdateQuotas(Body):
    """PUT /os-quota-sets/{project_id}."""

    quota_set: Annotated[
        dict[str, int],
        BeforeValidator(_limits),
        WithJsonSchema({"type": "object", "minProperties": 1, "additionalProperties": _LIMIT}),
    ]


class UpdateClass(Body):
    """PUT /os-quota-class-sets/{class}."""

    quota_class_set: Annotated[
        dict[str, int],
        BeforeValidator(_class_limits),
        WithJsonSchema({"type": "object", "additionalProperties": _LIMIT}),
    ]


class Used(BaseModel):
    """A limit and its use."""

    limit: int
    in_use: int
    reserved: int


class QuotaSet(RootModel[dict[str, int | Used | str]]):
    """Limits by resource (-1: unlimited), with `usage=true` each with its use; `id` is the project."""


class QuotaSetReply(BaseModel):
    """A project's quotas."""

    quota_set: QuotaSet


class QuotaClass(RootModel[dict[str, Annotated[int | str, Field()]]]):
    """Limits by resource (-1: unlimited); `id` is the class."""


class QuotaClassReply(BaseModel):
    """Quotas of a class."""

    quota_class_set: QuotaClass
