"""The OpenAPI 3.1 document, made from the route table and the pydantic models, so that it cannot tell another story.

Paths are relative to the servers `/v3` and `/v3/{project_id}`. `python -m serve_app.wire.openapi > docs/openapi.json`
writes the copy that is kept in the repository. The document says nothing that needs hiding: anybody may read it.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import orjson
from pydantic import BaseModel
from pydantic.json_schema import JsonSchemaMode, models_json_schema

from serve_app.wire import microversion
from serve_app.wire.exchange import Exchange
from serve_app.wire.faults import NoSuchRoute
from serve_app.wire.fields import MAX_INTEGER
from serve_app.wire.route import Action, Reply, Route

Schema = dict[str, Any]
Key = tuple[type[Any], JsonSchemaMode]
_PARAMETER = re.compile(r"{([^}]+)}")
_BOOLEAN_WORDS = ["true", "false", "True", "False", "1", "0", "yes", "no", "on", "off"]
_QUERY: dict[str, Schema] = {
    "limit": {"type": "integer", "minimum": 0, "maximum": MAX_INTEGER},
    "offset": {"type": "integer", "minimum": 0, "maximum": MAX_INTEGER},
    "marker": {"type": "string"},
    "sort_dir": {"enum": ["asc", "desc"]},
    **{key: {"enum": _BOOLEAN_WORDS} for key in ("all_tenants", "with_count", "cascade", "force", "usage", "detail")},
}
_DETAIL: Schema = {
    "type": "object",
    "required": ["code", "message"],
    "properties": {"code": {"type": "integer"}, "message": {"type": "string"}, "retryAfter": {"type": "string"}},
}
_FAULT: Schema = {
    "description": "One key that names the kind of fault, as `badRequest` or `itemNotFound`; or webob's own form.",
    "anyOf": [
        {
            "type": "object",
            "minProperties": 1,
            "maxProperties": 1,
            "additionalProperties": {"$ref": "#/components/schemas/FaultDetail"},
        },
        {
            "type": "object",
            "required": ["message", "code", "title"],
            "properties": {"message": {"type": "string"}, "code": {"type": "string"}, "title": {"type": "string"}},
        },
    ],
}
_HEADERS = {
    "OpenStack-API-Version": ("The microversion in force, as `volume 3.71`.", r"^volume 3\.[0-9]+$"),
    "x-compute-request-id": ("The request's id.", "^req-[0-9a-f-]{36}$"),
    "x-openstack-request-id": ("The request's id.", "^req-[0-9a-f-]{36}$"),
}


def document(routes: Sequence[Route], actions: Sequence[Action]) -> Schema:
    """The document for these routes and actions. The same input gives the same document."""
    refs, definitions = _models(routes, actions)
    paths: dict[str, Schema] = {}
    for route in routes:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route, refs)
    grouped: dict[str, list[Action]] = {}
    for action in actions:
        grouped.setdefault(f"{action.path}/action", []).append(action)
    for path, group in grouped.items():
        paths.setdefault(path, {})["post"] = _action_operation(path, group, refs)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Pumice Block Storage API",
            "version": f"3.{microversion.MAXIMUM}",
            "description": "Cinder's Block Storage API v3. Every path is served below `/v3` and `/v3/{project_id}`, "
            "where the project must be the token's.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [
            {"url": "/v3", "description": "The project is the token's."},
            {
                "url": "/v3/{project_id}",
                "description": "The project is named.",
                "variables": {"project_id": {"default": "0" * 32}},
            },
        ],
        "security": [{"token": []}],
        "paths": dict(sorted(paths.items())),
        "components": {
            "securitySchemes": {"token": {"type": "apiKey", "in": "header", "name": "X-Auth-Token"}},
            "parameters": {
                f"From3.{since}": _version_parameter(since)
                for since in sorted({route.since for route in routes} | {action.since for action in actions} | {0})
            },
            "headers": {
                name: {"description": text, "schema": {"type": "string", "pattern": pattern}}
                for name, (text, pattern) in _HEADERS.items()
            },
            "responses": {
                "Fault": {
                    "description": "The request was refused or failed.",
                    "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Fault"}}},
                }
            },
            "schemas": dict(sorted({**definitions, "Fault": _FAULT, "FaultDetail": _DETAIL}.items())),
        },
    }


def rendered(routes: Sequence[Route], actions: Sequence[Action]) -> bytes:
    """The document as it is served and kept."""
    return orjson.dumps(document(routes, actions), option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)


class OpenApi:
    """`GET /openapi.json`, made when it is first asked for."""

    def __init__(self, routes: Sequence[Route], actions: Sequence[Action]) -> None:
        self._routes, self._actions = routes, actions
        self._bytes: bytes | None = None

    async def answer(self, exchange: Exchange) -> Reply:
        """200 with the document."""
        if exchange.method not in ("GET", "HEAD") or exchange.path != "/openapi.json":
            raise NoSuchRoute
        if self._bytes is None:
            self._bytes = rendered(self._routes, self._actions)
        return Reply(200, self._bytes)


def _bodies(chosen: Route | Action) -> list[type[BaseModel]]:
    if chosen.body is None:
        return []
    return [model for _, model in chosen.body] if isinstance(chosen.body, tuple) else [chosen.body]


def _models(routes: Iterable[Route], actions: Iterable[Action]) -> tuple[Mapping[Key, Schema], dict[str, Schema]]:
    """A reference for each model and way of use, and the definitions."""
    wanted: dict[Key, None] = {}
    everything: list[Route | Action] = [*routes, *actions]
    for chosen in everything:
        for model in _bodies(chosen):
            wanted[(model, "validation")] = None
        if chosen.reply is not None:
            wanted[(chosen.reply, "serialization")] = None
    refs, top = models_json_schema(list(wanted), ref_template="#/components/schemas/{model}")
    return dict(refs), top.get("$defs", {})


def _one_of(schemas: Sequence[Schema]) -> Schema:
    unique = [schema for place, schema in enumerate(schemas) if schema not in schemas[:place]]
    return unique[0] if len(unique) == 1 else {"anyOf": unique}


def _request(schema: Schema) -> Schema:
    return {"required": True, "content": {"application/json": {"schema": schema}}}


def _response(description: str, content: Schema | None, media: Sequence[str] = ("application/json",)) -> Schema:
    response: Schema = {
        "description": description,
        "headers": {name: {"$ref": f"#/components/headers/{name}"} for name in _HEADERS},
    }
    if content is not None:
        response["content"] = {kind: {"schema": content} for kind in media}
    return response


def _version_parameter(since: int) -> Schema:
    """The microversion header: required where 3.0, which its absence means, does not have the operation."""
    schema: Schema = {"type": "string", "pattern": r"^volume (latest|3\.([0-9]|[1-6][0-9]|7[01]))$"}
    if since:
        known = [f"volume 3.{minor}" for minor in range(since, microversion.MAXIMUM + 1)]
        schema = {"enum": [*known, "volume latest"]}
    return {"name": microversion.HEADER, "in": "header", "required": since > 0, "schema": schema}


def _parameters(path: str, query: Sequence[str], since: int) -> list[Schema]:
    found: list[Schema] = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}}
        for name in _PARAMETER.findall(path)
    ]
    found += [{"name": name, "in": "query", "schema": _QUERY.get(name, {"type": "string"})} for name in query]
    return [*found, {"$ref": f"#/components/parameters/From3.{since}"}]


def _name(method: str, path: str) -> str:
    return re.sub(r"[^a-z0-9]+", "_", f"{method} {path}".lower()).strip("_")


def _tag(path: str) -> str:
    return path.split("/")[1] or "versions"


def _operation(route: Route, refs: Mapping[Key, Schema]) -> Schema:
    content = None if route.reply is None else refs[(route.reply, "serialization")]
    described: Schema = {
        "operationId": _name(route.method, route.path),
        "summary": route.summary,
        "tags": [_tag(route.path)],
        "x-policy-rule": route.rule,
        "parameters": _parameters(route.path, route.query, route.since),
        "responses": {
            str(route.status): _response(route.summary, content, route.media),
            "default": {"$ref": "#/components/responses/Fault"},
        },
    }
    if bodies := _bodies(route):
        described["requestBody"] = _request(_one_of([refs[(model, "validation")] for model in bodies]))
    return described


def _action_operation(path: str, group: Sequence[Action], refs: Mapping[Key, Schema]) -> Schema:
    choices: list[Schema] = []
    replies: dict[str, list[Schema]] = {}
    for action in group:
        bodies = [refs[(model, "validation")] for model in _bodies(action)]
        choices.append(
            {
                "title": action.key,
                "description": f"{action.summary} (from 3.{action.since}, rule {action.rule}).",
                "type": "object",
                "properties": {action.key: _one_of(bodies) if bodies else {}},
                "required": [action.key],
                "additionalProperties": False,
            }
        )
        answers = replies.setdefault(str(action.status), [])
        if action.reply is not None:
            answers.append(refs[(action.reply, "serialization")])
    responses: Schema = {
        status: _response("The action was accepted or done.", _one_of(answers) if answers else None)
        for status, answers in sorted(replies.items())
    }
    responses["default"] = {"$ref": "#/components/responses/Fault"}
    return {
        "operationId": _name("post", path),
        "summary": "Do one of: " + ", ".join(action.key for action in group),
        "tags": [_tag(path)],
        "parameters": _parameters(path, (), min(action.since for action in group)),
        "requestBody": _request({"oneOf": choices}),
        "responses": responses,
    }


def _main() -> None:
    from serve_app.app import ACTIONS, ROUTES

    sys.stdout.buffer.write(rendered(ROUTES, ACTIONS))


if __name__ == "__main__":
    _main()
