"""Types that request bodies are made of: names, descriptions, metadata, booleans, sizes, ids.

They accept and refuse what Cinder's `parameter_types` do (strings for booleans and sizes included); the one thing
added is that control characters are refused, because no two databases agree on them. A refusal reads as jsonschema
words it, since clients print it.
"""

from __future__ import annotations

import re
import uuid
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema
from pydantic_core import PydanticCustomError

MAX_INTEGER = 2**31 - 1
METADATA_KEY = re.compile(r"[a-zA-Z0-9\-_:. /]{1,255}")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_CONTROL_BUT_LINES = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
_ONE_LINE = r"^[^\u0000-\u001f\u007f]*$"
_ONE_LINE_NOT_BLANK = r"^[^\u0000-\u001f\u007f]*[^\u0000-\u0020\u007f\s][^\u0000-\u001f\u007f]*$"
_LINES = r"^[^\u0000-\u0008\u000b\u000c\u000e-\u001f\u007f]*$"
_TRUE = (True, "True", "TRUE", "true", "1", "ON", "On", "on", "YES", "Yes", "yes", "y", "t")
_FALSE = (False, "False", "FALSE", "false", "0", "OFF", "Off", "off", "NO", "No", "no", "n", "f")
# Digit strings from 1 to 2147483647.
_SIZE_DIGITS = (
    r"^0*([1-9][0-9]{0,8}|1[0-9]{9}|20[0-9]{8}|21[0-3][0-9]{7}|214[0-6][0-9]{6}|2147[0-3][0-9]{5}|21474[0-7][0-9]{4}"
    r"|214748[0-2][0-9]{3}|2147483[0-5][0-9]{2}|21474836[0-3][0-9]|214748364[0-7])$"
)


def refusal(reason: str) -> PydanticCustomError:
    """A refusal with `reason` as its whole text."""
    return PydanticCustomError("refused", "{reason}", {"reason": reason})


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 200 else f"{text[:200]}…"  # the reason behind it must fit into a message as well


def _text(value: str, forbidden: re.Pattern[str]) -> str:
    if forbidden.search(value):
        raise refusal(f"{_shown(value)} contains control characters")
    value = value.strip()
    if len(value) > 255:
        raise refusal(f"{_shown(value)} is too long")
    return value


def _one_line(value: str) -> str:
    return _text(value, _CONTROL)


def _lines(value: str) -> str:
    return _text(value, _CONTROL_BUT_LINES)


def _not_blank(value: str) -> str:
    value = _one_line(value)
    if not value:
        raise refusal("'' is too short")
    return value


def _boolean(value: object) -> bool:
    if isinstance(value, bool):
        return value
    if isinstance(value, str):
        if value in _TRUE:
            return True
        if value in _FALSE:
            return False
        raise refusal(f"{_shown(value)} is not one of {list(_TRUE + _FALSE)}")
    raise refusal(f"{_shown(value)} is not of type 'boolean', 'string'")


def _whole(value: object, low: int) -> int:
    if isinstance(value, str):
        if not re.fullmatch("[0-9]+", value):
            raise refusal(f"{_shown(value)} does not match '^[0-9]+$'")
        value = int(value) if len(value) < 40 else MAX_INTEGER + 1
    if isinstance(value, bool) or not isinstance(value, int):
        raise refusal(f"{_shown(value)} is not of type 'integer', 'string'")
    if value < low:
        raise refusal(f"{value} is less than the minimum of {low}")
    if value > MAX_INTEGER:
        raise refusal(f"{value} is greater than the maximum of {MAX_INTEGER}")
    return value


def _size(value: object) -> int:
    return _whole(value, 1)


def _uuid(value: object) -> str:
    if not isinstance(value, str):
        raise refusal(f"{_shown(value)} is not of type 'string'")
    try:
        return str(uuid.UUID(value))
    except ValueError:
        raise refusal(f"{_shown(value)} is not a 'uuid'") from None


def _metadata(value: object) -> dict[str, str]:
    if not isinstance(value, dict):
        raise refusal(f"{_shown(value)} is not of type 'object'")
    for key, text in value.items():
        if not METADATA_KEY.fullmatch(key):
            raise refusal(f"{_shown(key)} does not match any of the regexes: '^[a-zA-Z0-9-_:. /]{{1,255}}$'")
        if not isinstance(text, str):
            raise refusal(f"{_shown(text)} is not of type 'string'")
        if len(text) > 255:
            raise refusal(f"{_shown(text)} is too long")
        if _CONTROL_BUT_LINES.search(text):
            raise refusal(f"{_shown(text)} contains control characters")
    return value


def _one_key(value: dict[str, str]) -> dict[str, str]:
    if len(value) != 1:
        raise refusal(f"{_shown(value)} does not have exactly one property")
    return value


_METADATA_SCHEMA: dict[str, Any] = {
    "type": "object",
    "propertyNames": {"pattern": r"^[a-zA-Z0-9_:. /-]{1,255}$"},
    "additionalProperties": {"type": "string", "maxLength": 255, "pattern": _LINES},
}

Name255 = Annotated[
    str, AfterValidator(_one_line), WithJsonSchema({"type": "string", "maxLength": 255, "pattern": _ONE_LINE})
]
"""A name: white space around it is stripped, then at most 255 characters; may be empty."""

RequiredName255 = Annotated[
    str,
    AfterValidator(_not_blank),
    WithJsonSchema({"type": "string", "minLength": 1, "maxLength": 255, "pattern": _ONE_LINE_NOT_BLANK}),
]
"""A name that must not be blank."""

Description255 = Annotated[
    str, AfterValidator(_lines), WithJsonSchema({"type": "string", "maxLength": 255, "pattern": _LINES})
]
"""A description: as a name, but tabs and line ends are allowed."""

NullableName255 = Name255 | None
NullableDescription255 = Description255 | None

StrictBoolean = Annotated[
    bool, BeforeValidator(_boolean), WithJsonSchema({"type": ["boolean", "string"], "enum": [*_TRUE, *_FALSE]})
]
"""true, false, or one of the strings that Cinder takes for them. Numbers are refused."""

SizeGib = Annotated[
    int,
    BeforeValidator(_size),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "integer", "minimum": 1, "maximum": MAX_INTEGER},
                {"type": "string", "pattern": _SIZE_DIGITS, "maxLength": 39},
            ]
        }
    ),
]
"""A size in GiB: an integer or a string of digits, from 1 to 2147483647."""

Uuid = Annotated[str, BeforeValidator(_uuid), WithJsonSchema({"type": "string", "format": "uuid"})]
"""An id, given back in lower case with dashes."""

Metadata = Annotated[dict[str, str], BeforeValidator(_metadata), WithJsonSchema(_METADATA_SCHEMA)]
"""Strings by key. Keys: 1 to 255 of letters, digits, `-_:. /`; values: at most 255 characters."""

OneMetadataItem = Annotated[
    dict[str, str],
    BeforeValidator(_metadata),
    AfterValidator(_one_key),
    WithJsonSchema({**_METADATA_SCHEMA, "minProperties": 1, "maxProperties": 1}),
]
"""The value of `meta`: exactly one key."""

NullableString255 = Annotated[str, Field(max_length=255), AfterValidator(_one_line)] | None
"""Any string of at most 255 characters, or null."""
