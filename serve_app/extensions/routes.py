"""The list of API extensions, for clients that look before they leap."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

from cluster.errors import NotFoundError
from serve_app.extensions.catalogue import SERVED, Extension
from serve_app.wire.route import Call, Reply, Route


class ExtensionView(BaseModel):
    """An extension."""

    name: str
    alias: str
    description: str
    updated: str
    links: list[Any]


class ExtensionsReply(BaseModel):
    """Extensions."""

    extensions: list[ExtensionView]


class ExtensionReply(BaseModel):
    """One extension."""

    extension: ExtensionView


def _view(extension: Extension) -> dict[str, Any]:
    return {
        "name": extension.name,
        "alias": extension.alias,
        "description": extension.description,
        "updated": extension.updated,
        "links": [],
    }


async def index(_call: Call) -> Reply:
    """GET /extensions."""
    return Reply(body={"extensions": [_view(each) for each in SERVED]})


async def show(call: Call) -> Reply:
    """GET /extensions/{alias}."""
    alias = call.path["alias"]
    found = next((each for each in SERVED if each.alias == alias), None)
    if found is None:
        raise NotFoundError("The resource could not be found.")
    return Reply(body={"extension": _view(found)})


ROUTES = (
    Route("GET", "/extensions", index, "-", "List API extensions", reply=ExtensionsReply),
    Route("GET", "/extensions/{alias}", show, "-", "Show an API extension", reply=ExtensionReply),
)
