"""Request bodies: reading them within the limit, JSON, and the pydantic model. Refusals read as Cinder's do."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import orjson
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from serve_app.wire.faults import BadRequest, Fault, OverLimit, UnsupportedMediaType
from serve_app.wire.route import BodyByVersion

Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
_JSON_TYPES = ("application/json", "application/vnd.openstack.volume+json")
_DEPTH = 64
_SHOWN = 255
_SECRETS = ("password", "secret", "auth_key", "token", "adminpass")
_TYPE_NAMES = {
    "string_type": "'string'",
    "int_type": "'integer'",
    "int_from_float": "'integer'",
    "float_type": "'number'",
    "bool_type": "'boolean'",
    "dict_type": "'object'",
    "model_type": "'object'",
    "model_attributes_type": "'object'",
    "list_type": "'array'",
}


class ClientGoneError(Exception):
    """The client went away while its body was read; nobody waits for an answer."""


def check_length(header: str | None, limit: int) -> None:
    """Refuse a body that is announced to be longer than `limit` bytes. Raises OverLimit, BadRequest."""
    if header is None:
        return
    if not header.isdecimal():
        raise BadRequest("Content-Length is not a number")
    if len(header) > 18 or int(header) > limit:
        raise OverLimit("Request is too large.")


async def read(receive: Receive, limit: int) -> bytes:
    """The whole body. Raises OverLimit as soon as more than `limit` bytes have come, ClientGoneError."""
    parts: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] != "http.request":
            raise ClientGoneError
        part = message.get("body", b"")
        size += len(part)
        if size > limit:
            raise OverLimit("Request is too large.")
        if not message.get("more_body", False):
            return part if not parts else b"".join([*parts, part])
        parts.append(part)


def parse(raw: bytes, content_type: str | None) -> Any:
    """The JSON value of `raw`; None for an empty body. Raises UnsupportedMediaType, BadRequest."""
    if not raw:
        return None
    if content_type is not None and content_type.partition(";")[0].strip().lower() not in _JSON_TYPES:
        raise UnsupportedMediaType("Unsupported Content-Type")
    try:
        value = orjson.loads(raw)
    except orjson.JSONDecodeError:
        raise BadRequest("Malformed request body") from None
    if b"\\u0000" in raw and _holds_nul(value):
        raise BadRequest("Malformed request body: strings must not hold NUL characters")
    if raw.count(b"[") + raw.count(b"{") > _DEPTH and _depth(value) > _DEPTH:
        raise BadRequest("Malformed request body: nested too deeply")
    return value


def model_for(body: type[BaseModel] | BodyByVersion, minor: int) -> type[BaseModel] | None:
    """The model that is in force at 3.`minor`; None when there is none yet."""
    if not isinstance(body, tuple):
        return body
    return next((model for first, model in reversed(body) if first <= minor), None)


def validated(model: type[BaseModel], value: Any, field: str | None = None) -> BaseModel:
    """`value` as a `model`. `field` is the key it stood under. Raises BadRequest."""
    try:
        return model.model_validate(value)
    except ValidationError as error:
        raise _refusal(error.errors(include_url=False, include_context=True)[0], value, field) from None


def _refusal(error: ErrorDetails, value: Any, field: str | None) -> Fault:
    """Cinder's sentence for the first error. Union members appear in `loc` too, so the body itself is followed."""
    name, here = field, value
    kind, last = error["type"], str(error["loc"][-1]) if error["loc"] else ""
    for step in error["loc"][:-1] if kind == "extra_forbidden" else error["loc"]:
        listed = isinstance(here, list) and isinstance(step, int) and step < len(here)
        if not listed and not (isinstance(here, dict) and step in here):
            break
        name, here = str(step), here[step]
    secret = name is not None and _is_secret(name)
    reason = _reason(kind, last, here, error, secret)
    if name is None:
        return BadRequest(reason)
    shown = "***" if secret else _cut(str(_masked(here)))
    return BadRequest(f"Invalid input for field/attribute {_cut(name)}. Value: {shown}. {reason}")


def _reason(kind: str, last: str, here: Any, error: ErrorDetails, secret: bool) -> str:
    context = error.get("ctx", {})
    shown = "'***'" if secret else _cut(repr(_masked(here)))
    match kind:
        case "missing":
            return f"'{last}' is a required property"
        case "extra_forbidden":
            return f"Additional properties are not allowed ({_cut(repr(last))} was unexpected)"
        case "string_too_long" | "too_long":
            return f"{shown} is too long"
        case "string_too_short" | "too_short":
            return f"{shown} is too short"
        case "greater_than_equal" | "greater_than":
            return f"{shown} is less than the minimum of {context.get('ge', context.get('gt'))}"
        case "less_than_equal" | "less_than":
            return f"{shown} is greater than the maximum of {context.get('le', context.get('lt'))}"
        case "literal_error" | "enum":
            return f"{shown} is not one of [{context.get('expected')}]"
        case "string_pattern_mismatch":
            return f"{shown} does not match {context.get('pattern')!r}"
        case _ if kind in _TYPE_NAMES:
            return f"{shown} is not of type {_TYPE_NAMES[kind]}"
        case _:
            return "the value is not valid" if secret else _cut(error["msg"].removeprefix("Value error, "))


def _is_secret(name: str) -> bool:
    lowered = name.lower()
    return any(word in lowered for word in _SECRETS)


def _masked(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: "***" if _is_secret(key) else _masked(item) for key, item in value.items()}
    return [_masked(item) for item in value] if isinstance(value, list) else value


def _cut(text: str) -> str:
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"


def _holds_nul(value: Any) -> bool:
    waiting = [value]
    while waiting:
        item = waiting.pop()
        if isinstance(item, str):
            if "\x00" in item:
                return True
        elif isinstance(item, dict):
            waiting.extend(item.keys())
            waiting.extend(item.values())
        elif isinstance(item, list):
            waiting.extend(item)
    return False


def _depth(value: Any) -> int:
    deepest, waiting = 0, [(value, 1)]
    while waiting:
        item, depth = waiting.pop()
        if isinstance(item, dict | list):
            deepest = max(deepest, depth)
            waiting.extend((below, depth + 1) for below in (item.values() if isinstance(item, dict) else item))
    return deepest
