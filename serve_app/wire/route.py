"""How a route is declared, and what a handler gets and gives.

A resource's `routes.py` exports `ROUTES` (and `ACTIONS` for `POST …/{id}/action`). `serve_app.wire.dispatch` serves
them under `/v3/{project_id}` and `/v3`, in this order: find the route, negotiate the microversion, authenticate,
compare the projects, apply the policy rule, read and validate the body, call the handler.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel, ConfigDict
from starlette.datastructures import QueryParams

from cluster.caller import Caller
from cluster.outside import Outside
from cluster.settings import Settings
from cluster.store.seam import Store


class Body(BaseModel):
    """A request body or a part of one. Unknown keys are refused unless a model says otherwise; numbers and strings
    are not mixed up by guessing."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


# Given the caller's token, a server's id and a volume's: the id of the attachment by which that server uses the volume,
# or None. Raises Unavailable when nobody can say.
Servers = Callable[[str, str, str], Awaitable[str | None]]


@dataclass(frozen=True)
class Room:
    """What handlers work with. `ring` wakes the conductor and never waits for an answer; `servers` asks Nova, where the
    cloud may have one."""

    store: Store
    settings: Settings
    outside: Outside
    ring: Callable[[], None]
    servers: Servers | None = None


@dataclass(frozen=True)
class Call:
    """One request. `minor` is the negotiated microversion's minor number (0 to 71); `base` is `http://host:port` as
    the client sees it; `prefix` is `{base}/v3/{project_id}` for links; `body` is an instance of the route's model;
    `from_cluster` when it came from a program of the Ray cluster and not over HTTP."""

    room: Room
    caller: Caller
    minor: int
    path: Mapping[str, str]
    query: QueryParams
    headers: Mapping[str, str]
    base: str
    prefix: str
    body: Any = None
    from_cluster: bool = False


@dataclass(frozen=True)
class Reply:
    """An answer. `body` None is an empty body; bytes are sent as they are (already JSON)."""

    status: int = 200
    body: Mapping[str, object] | list[object] | bytes | None = None
    headers: Mapping[str, str] = field(default_factory=dict)


Handler = Callable[[Call], Awaitable[Reply]]
BodyByVersion = tuple[tuple[int, type[BaseModel]], ...]


@dataclass(frozen=True)
class Route:
    """A method and a path below the project (`/volumes/{volume_id}`), from microversion 3.`since` on.

    `rule` is a name of the policy table. `body` is the model of the body, or pairs (first minor, model) in rising
    order. `reply` names the wire shape for the OpenAPI document: a pydantic model or None for an empty answer.
    `query` are the query parameters known to it (for the document; values are read by the handler). `media` are the
    content types that a success may have (for the document).
    """

    method: str
    path: str
    handler: Handler
    rule: str
    summary: str
    status: int = 200
    since: int = 0
    body: type[BaseModel] | BodyByVersion | None = None
    reply: type[BaseModel] | None = None
    query: tuple[str, ...] = ()
    media: tuple[str, ...] = ("application/json",)


@dataclass(frozen=True)
class Action:
    """A key of `POST {path}/action` (`path` as `/volumes/{volume_id}`): `{"os-extend": {…}}`. `body` validates the
    value under the key (None: whatever is there, usually null, is ignored)."""

    path: str
    key: str
    handler: Handler
    rule: str
    summary: str
    status: int = 202
    since: int = 0
    body: type[BaseModel] | BodyByVersion | None = None
    reply: type[BaseModel] | None = None
