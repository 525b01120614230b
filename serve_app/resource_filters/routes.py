"""Which lists may be filtered by what, from 3.33 on."""

from __future__ import annotations

from pydantic import BaseModel

from serve_app.wire.filters import ALLOWED
from serve_app.wire.route import Call, Reply, Route


class ResourceFilter(BaseModel):
    """The filters of one list."""

    resource: str
    filters: list[str]


class ResourceFiltersReply(BaseModel):
    """The filters of lists."""

    resource_filters: list[ResourceFilter]


async def index(call: Call) -> Reply:
    """GET /resource_filters; of one resource, if the query names it (an unknown one: none)."""
    asked = call.query.get("resource")
    shown = [
        {"resource": resource, "filters": list(filters)}
        for resource, filters in ALLOWED.items()
        if not asked or resource == asked
    ]
    return Reply(body={"resource_filters": shown})


ROUTES = (
    Route(
        "GET",
        "/resource_filters",
        index,
        "-",
        "List the filters of lists",
        since=33,
        reply=ResourceFiltersReply,
        query=("resource",),
    ),
)
