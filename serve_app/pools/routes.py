"""Pools as last reported to the scheduler, and what backends can do. Read from SQL: an answer needs no scheduler."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from sqlalchemy import Connection
from starlette.datastructures import QueryParams

from cluster.errors import NotFoundError
from cluster.services import queries
from cluster.services.matching import suits
from cluster.volume_types import queries as types
from serve_app.pools import schemas, views
from serve_app.wire.filters import filters_of
from serve_app.wire.paging import boolean_of
from serve_app.wire.route import Call, Reply, Route

_FILTERS_FROM = 28
_TABLE_FROM = 31
_TYPE_FROM = 35
_KNOWN = frozenset(("name", "volume_type"))
_YES = ("1", "t", "true", "on", "y", "yes")


def _filters(call: Call) -> dict[str, str]:
    if call.minor < _FILTERS_FROM:
        return {}
    others = QueryParams([(key, value) for key, value in call.query.multi_items() if key != "detail"])
    narrowed = replace(call, query=others)
    given = filters_of(narrowed, "pool", _KNOWN) if call.minor >= _TABLE_FROM else dict(others)
    return {key: value for key, value in given.items() if key != "volume_type" or call.minor >= _TYPE_FROM}


def _equals(stats: Mapping[str, Any], key: str, value: str) -> bool:
    found = stats.get(key)
    if isinstance(found, bool):
        return found is (value.strip().lower() in _YES)
    return found is not None and str(found) == value


async def get_pools(call: Call) -> Reply:
    """GET /scheduler-stats/get_pools."""
    detail = boolean_of(call, "detail")
    given = _filters(call)
    name, volume_type = given.pop("name", None), given.pop("volume_type", None)

    def work(db: Connection) -> list[queries.PoolView]:
        found = queries.pools(db, name=name)
        if volume_type:
            specs = types.by_name_or_id(db, call.caller, volume_type)["extra_specs"]
            found = [pool for pool in found if suits(pool.stats, specs)]
        return [pool for pool in found if all(_equals(pool.stats, key, value) for key, value in given.items())]

    pools = await call.room.store.read(work)
    return Reply(body={"pools": [views.pool(pool, detail=detail) for pool in pools]})


async def capabilities(call: Call) -> Reply:
    """GET /capabilities/{host}."""
    host = call.path["host"]

    def work(db: Connection) -> tuple[str, Mapping[str, Any]]:
        found = queries.services(db, 0.0, 0.0, host=host, binary=queries.VOLUME_BINARY)
        if not found:
            raise NotFoundError(f"Can't find service: {host}")
        pools = queries.pools(db, service_host=found[0].host)
        return found[0].host, pools[0].stats if pools else {}

    service_host, stats = await call.room.store.read(work)
    return Reply(body=views.capabilities(service_host, stats))


ROUTES = (
    Route(
        "GET",
        "/scheduler-stats/get_pools",
        get_pools,
        "scheduler_extension:scheduler_stats:get_pools",
        "List pools",
        reply=schemas.PoolsReply,
        query=("detail", "name", "volume_type"),
    ),
    Route(
        "GET",
        "/capabilities/{host}",
        capabilities,
        "volume_extension:capabilities",
        "Show what a backend can do",
        reply=schemas.CapabilitiesReply,
    ),
)
