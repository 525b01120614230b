"""A tiny API in process: a few routes over the real dispatch, and an authenticator that believes its tokens."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any, cast

import httpx
import pytest
from sqlalchemy.exc import IntegrityError

from cluster.caller import Caller
from cluster.errors import ConflictError, NotFoundError, OverQuotaError
from cluster.outside import Outside
from cluster.settings import Settings
from cluster.store.seam import Store, StoreUnavailableError
from serve_app.versions import routes as versions
from serve_app.wire import fields
from serve_app.wire.dispatch import Dispatch
from serve_app.wire.faults import PreconditionFailed, Unauthorized
from serve_app.wire.route import Action, Body, Call, Reply, Room, Route
from serve_app.wire.site import Site

PROJECT = "ab" * 16


class Thing(Body):
    name: fields.NullableName255 = None
    size: fields.SizeGib
    bootable: fields.StrictBoolean = False
    metadata: fields.Metadata | None = None
    password: fields.Uuid | None = None


class ThingBody(Body):
    thing: Thing


class OldThing(Body):
    size: int


class OldThingBody(Body):
    thing: OldThing


class Extend(Body):
    new_size: fields.SizeGib


class FakeAuthenticator:
    """Tokens are `role@project`."""

    async def authenticate(
        self, headers: Mapping[str, str], request_id: str, global_request_id: str | None = None
    ) -> Caller:
        role, _, project = headers.get("x-auth-token", "").partition("@")
        if not project:
            raise Unauthorized("http://keystone/v3")
        return Caller("u1", project, request_id, frozenset((role,)), role == "admin", global_request_id)

    async def close(self) -> None:
        """Nothing is open."""


async def echo(call: Call) -> Reply:
    body = call.body.model_dump() if call.body is not None else None
    return Reply(
        200,
        {
            "path": dict(call.path),
            "query": dict(call.query),
            "minor": call.minor,
            "prefix": call.prefix,
            "global": call.caller.global_request_id,
            "body": body,
        },
    )


def _broken(constraint: str) -> IntegrityError:
    cause = sqlite3.IntegrityError("constraint failed: 42")
    cause.sqlite_errorname = constraint
    return IntegrityError("INSERT", {}, cause)


async def fail(call: Call) -> Reply:
    errors: dict[str, Exception] = {
        "missing": NotFoundError.of("Thing", "1"),
        "taken": ConflictError("taken"),
        "quota": OverQuotaError("too much"),
        "store": StoreUnavailableError("no file"),
        "etag": PreconditionFailed(""),
        "bug": RuntimeError("the secret is 42"),
        "race": _broken("SQLITE_CONSTRAINT_FOREIGNKEY"),
        "null": _broken("SQLITE_CONSTRAINT_NOTNULL"),
    }
    raise errors[call.path["how"]]


async def nothing(call: Call) -> Reply:
    return Reply(204)


ROUTES = (
    *versions.ROUTES,
    Route("GET", "/things", echo, "volume:get_all", "List"),
    Route("GET", "/things/detail", echo, "volume:get_all", "List"),
    Route("POST", "/things", echo, "volume:create", "Create", body=((0, OldThingBody), (13, ThingBody))),
    Route("GET", "/things/{thing_id}", echo, "volume:get", "Show"),
    Route("DELETE", "/things/{thing_id}", nothing, "volume:delete", "Delete"),
    Route("GET", "/things/{id}/metadata/{key}", echo, "volume:get", "Show"),
    Route("GET", "/new", echo, "-", "New", since=40),
    Route("GET", "/services", echo, "volume_extension:services:index", "Admin"),
    Route("GET", "/fail/{how}", fail, "-", "Fail"),
)
ACTIONS = (
    Action("/things/{thing_id}", "os-extend", echo, "volume:extend", "Extend", body=Extend),
    Action("/things/{thing_id}", "os-reserve", echo, "volume:extend", "Reserve"),
    Action("/things/{thing_id}", "os-reset", echo, "volume_extension:volume_admin_actions:reset_status", "Reset"),
    Action("/things/{thing_id}", "revert", echo, "volume:extend", "Revert", since=40),
)


def make_room(path: Path, **settings: Any) -> Room:
    return Room(cast(Store, None), Settings(state_dir=path, **settings), Outside(), lambda: None)


def make_site(room: Room) -> Site:
    dispatch = Dispatch(room, FakeAuthenticator(), ROUTES, ACTIONS)
    return Site(room, {"": versions.Root(), "healthcheck": versions.Healthcheck(), "v3": dispatch})


@pytest.fixture
def room(tmp_path: Path) -> Room:
    return make_room(tmp_path)


@pytest.fixture
async def client(room: Room) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(make_site(room))  # type: ignore[arg-type]
    headers = {"X-Auth-Token": f"member@{PROJECT}"}
    async with httpx.AsyncClient(transport=transport, base_url="http://api:8776", headers=headers) as client:
        yield client
