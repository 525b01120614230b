"""User messages: told, listed, deleted, pruned; and the two static lists."""

from __future__ import annotations

from typing import Any

from cluster.messages import intents
from cluster.messages.catalogue import Action, Detail, Level, ResourceType, event_id
from cluster.outside import stamp
from serve_app import app
from serve_app.extensions.catalogue import SERVED

MEMBER, STRANGER = "b" * 32, "c" * 32
MONTH = 30 * 86400.0


async def _tell(api: Any, project: str = MEMBER, life: float = MONTH, **more: Any) -> str:
    values: dict[str, Any] = {
        "project_id": project,
        "request_id": "req-1",
        "action": Action.SCHEDULE_ALLOCATE_VOLUME,
        "detail": Detail.NO_BACKEND_AVAILABLE,
        "resource_type": ResourceType.VOLUME,
        "resource_id": "v1",
    } | more
    return str(await api.room.store.write(lambda db: intents.tell(db, api.room.outside, life, **values)))


async def _ids(api: Any, query: str = "", **how: Any) -> list[str]:
    status, body = await api.get(f"/messages{query}", **{"who": "member", **how})
    assert status == 200, body
    return [each["id"] for each in body["messages"]]


def test_the_ids_are_cinders() -> None:
    assert [action.id for action in Action if action.id < "900"] == [f"{number:03}" for number in range(1, 17)]
    assert [detail.id for detail in Detail if detail.id < "900"] == [f"{number:03}" for number in range(1, 31)]
    assert event_id(ResourceType.SNAPSHOT, Action.SNAPSHOT_DELETE, Detail.SNAPSHOT_IS_BUSY) == (
        "VOLUME_VOLUME_SNAPSHOT_010_015"
    )


async def test_a_message(api: Any) -> None:
    message = await _tell(api, reason="n1@nvme#p: 3 GiB are free and 5 GiB are asked for.")
    created = stamp(api.clock.seconds)
    path = f"http://api.test/v3/{MEMBER}/messages/{message}"
    expected = {
        "id": message,
        "event_id": "VOLUME_VOLUME_001_003",
        "user_message": (
            "schedule allocate volume:Could not find any available weighted backend. "
            "n1@nvme#p: 3 GiB are free and 5 GiB are asked for."
        ),
        "message_level": "ERROR",
        "created_at": created,
        "guaranteed_until": stamp(api.clock.seconds + MONTH),
        "request_id": "req-1",
        "links": [{"rel": "self", "href": path}, {"rel": "bookmark", "href": path.replace("/v3/", "/")}],
        "resource_type": "VOLUME",
        "resource_uuid": "v1",
    }
    assert await api.get(f"/messages/{message}", who="member") == (200, {"message": expected})
    assert await api.get("/messages", who="member", minor=3) == (200, {"messages": [expected]})
    assert (await api.get("/messages", who="member", minor=2))[0] == 404


async def test_a_long_reason_is_cut(api: Any) -> None:
    message = await _tell(api, reason="x" * 5000, resource_id=None)
    shown = (await api.get(f"/messages/{message}", who="member"))[1]["message"]
    assert len(shown["user_message"]) == 1024
    assert shown["user_message"].endswith("x…")
    assert "resource_uuid" not in shown


async def test_messages_stay_in_their_project(api: Any) -> None:
    mine, other = await _tell(api), await _tell(api, STRANGER)
    assert await _ids(api) == [mine]
    assert await _ids(api, who="admin") == [other, mine]
    missing = (404, {"itemNotFound": {"code": 404, "message": f"Message {other} could not be found."}})
    assert await api.get(f"/messages/{other}", who="member") == missing
    assert await api.delete(f"/messages/{other}", who="member") == missing
    assert (await api.delete(f"/messages/{mine}", who="reader"))[0] == 403
    assert await api.delete(f"/messages/{mine}", who="member") == (204, None)
    assert await api.delete(f"/messages/{other}", who="admin") == (204, None)
    assert await _ids(api, who="admin") == []


async def test_filters_and_pages(api: Any) -> None:
    first = await _tell(api, resource_id="v1")
    second = await _tell(api, resource_id="v2", request_id="req-2", level=Level.WARNING)
    third = await _tell(api, resource_id="s1", resource_type=ResourceType.SNAPSHOT, detail=Detail.SNAPSHOT_IS_BUSY)
    assert await _ids(api) == [third, second, first]
    assert await _ids(api, "?resource_uuid=v2") == [second]
    assert await _ids(api, "?request_id=req-2&message_level=WARNING") == [second]
    assert await _ids(api, "?resource_type=VOLUME_SNAPSHOT") == [third]
    assert await _ids(api, "?event_id=VOLUME_VOLUME_001_003") == [second, first]
    assert await _ids(api, "?resource_uuid~=v") == [second, first]
    assert await _ids(api, "?resource_uuid=v2", minor=4) == [third, second, first]
    assert await _ids(api, "?sort=created_at:asc&limit=2") == [first, second]
    status, body = await api.get("/messages?limit=2", who="member")
    (link,) = body["messages_links"]
    assert await _ids(api, link["href"].partition("/messages")[2]) == [first]
    assert (await api.get("/messages?colour=red", who="member"))[0] == 400
    assert await _ids(api, "?colour=red", who="admin") == []
    assert (await api.get("/messages?marker=nope", who="member"))[0] == 404
    assert status == 200


async def test_expired_messages_are_pruned(api: Any) -> None:
    await _tell(api, life=10.0)
    stays = await _tell(api, life=100.0)
    assert await api.room.store.write(lambda db: intents.prune(db, api.clock.seconds + 50)) == 1
    assert await _ids(api) == [stays]


async def test_resource_filters(api: Any) -> None:
    status, body = await api.get("/resource_filters", who="member")
    assert status == 200
    assert {"resource": "volume_type", "filters": ["is_public", "extra_specs"]} in body["resource_filters"]
    assert len(body["resource_filters"]) == 9
    assert await api.get("/resource_filters?resource=pool") == (
        200,
        {"resource_filters": [{"resource": "pool", "filters": ["name", "volume_type"]}]},
    )
    assert await api.get("/resource_filters?resource=nope") == (200, {"resource_filters": []})
    assert (await api.get("/resource_filters", minor=32))[0] == 404


async def test_extensions(api: Any) -> None:
    status, body = await api.get("/extensions", who="stranger")
    assert status == 200
    aliases = [each["alias"] for each in body["extensions"]]
    assert len(aliases) == len(set(aliases))
    assert await api.get("/extensions/os-quota-sets") == (
        200,
        {
            "extension": {
                "name": "Quotas",
                "alias": "os-quota-sets",
                "description": "Quota management support.",
                "updated": "2011-08-08T00:00:00+00:00",
                "links": [],
            }
        },
    )
    assert (await api.get("/extensions/backups"))[0] == 404


# Aliases that are paths of their own, or stand for paths and actions; the others are keys of views and bodies.
PROMISES = {
    "os-admin-actions": {"/volumes/{volume_id} os-reset_status", "/snapshots/{snapshot_id} os-reset_status"},
    "os-availability-zone": {"/os-availability-zone"},
    "capabilities": {"/capabilities/{host}"},
    "os-quota-class-sets": {"/os-quota-class-sets/{class_name}"},
    "os-quota-sets": {"/os-quota-sets/{quota_project_id}"},
    "qos-specs": {"/qos-specs/{qos_id}/associations"},
    "scheduler-stats": {"/scheduler-stats/get_pools"},
    "os-services": {"/os-services"},
    "os-snapshot-actions": {"/snapshots/{snapshot_id} os-update_snapshot_status"},
    "os-types-extra-specs": {"/types/{type_id}/extra_specs"},
    "os-types-manage": {"/types/{type_id}"},
    "os-used-limits": {"/limits"},
    "os-volume-actions": {"/volumes/{volume_id} os-extend"},
    "os-vol-image-meta": {"/volumes/{volume_id} os-set_image_metadata"},
    "os-volume-encryption-metadata": {"/volumes/{volume_id}/encryption"},
    "os-volume-type-access": {"/types/{type_id}/os-volume-type-access"},
}
KEYS_ONLY = {
    "os-extended-services",
    "os-extended-snapshot-attributes",
    "OS-SCH-HNT",
    "os-vol-host-attr",
    "os-vol-mig-status-attr",
    "os-vol-tenant-attr",
}


def test_what_an_alias_promises_is_served() -> None:
    assert {each.alias for each in SERVED} == PROMISES.keys() | KEYS_ONLY
    served = {route.path for route in app.ROUTES} | {f"{action.path} {action.key}" for action in app.ACTIONS}
    assert {thing for things in PROMISES.values() for thing in things} <= served


async def test_a_part_of_a_text_is_found_in_any_case(api: Any) -> None:
    message = await _tell(api)
    assert await _ids(api, "?resource_type~=olu") == [message]
    assert await _ids(api, "?resource_type~=oluX") == []
