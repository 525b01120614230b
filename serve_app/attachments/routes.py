"""Attachments: list, show, create, give a connector, complete, delete. All from 3.27; os-complete from 3.44."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from sqlalchemy import Connection

from cluster.attachments import intents, queries
from cluster.attachments.abandoning import NODE_KEY
from cluster.attachments.intents import Reserved
from cluster.attachments.queries import AttachmentRow
from cluster.volumes.filters import NothingMatchesError
from serve_app.attachments import actions, schemas, views
from serve_app.attachments.deletion import check_one
from serve_app.attachments.waiting import done
from serve_app.identity.policy import allows
from serve_app.wire.filters import ALLOWED, filters_of
from serve_app.wire.paging import all_tenants, apply_page, page_of
from serve_app.wire.route import Action, Call, Reply, Route

_SORT_KEYS: Final = frozenset(queries.SORTABLE)
_KNOWN: Final = frozenset(ALLOWED["attachment"])
_SINCE: Final = 27
_MODE_SINCE: Final = 54
_COMPLETE_SINCE: Final = 44


async def index(call: Call) -> Reply:
    """GET /attachments."""
    return await _list(call, views.summary)


async def detail(call: Call) -> Reply:
    """GET /attachments/detail."""
    return await _list(call, views.detail)


async def show(call: Call) -> Reply:
    """GET /attachments/{attachment_id}."""
    return _one(await call.room.store.read(lambda db: queries.get(db, call.caller, call.path["attachment_id"])))


async def create(call: Call) -> Reply:
    """POST /attachments."""
    body: schemas.CreateAttachment = call.body
    asked, permitted = body.attachment, allows("volume:multiattach_bootable_volume", call.caller)

    def intent(db: Connection) -> Reserved:
        return intents.reserve(
            db,
            call.room.outside,
            call.caller,
            asked.volume_uuid,
            instance_id=asked.instance_uuid,
            connector=_told(call, asked.connector or {}) or None,
            mode=asked.asked_mode(),
            bootable_permitted=permitted,
        )

    made = await done(call, intent, lambda reserved: reserved.work, "Unable to create attachment for volume.")
    if made.work is None:
        return _one(made.attachment)
    return _one(await call.room.store.read(lambda db: queries.get(db, call.caller, made.attachment["id"])))


def _told(call: Call, connector: Mapping[str, Any]) -> dict[str, Any]:
    """The connector without what only nodes of the cluster may say: attachments that have it end with their node."""
    return {key: value for key, value in connector.items() if call.from_cluster or key != NODE_KEY}


async def update(call: Call) -> Reply:
    """PUT /attachments/{attachment_id}."""
    body: schemas.UpdateAttachment = call.body
    attachment_id, connector = call.path["attachment_id"], _told(call, body.attachment.connector)
    await done(
        call,
        lambda db: intents.connect(db, call.room.outside, call.caller, attachment_id, connector),
        lambda work: work,
        "Unable to update the attachment.",
    )
    return _one(await call.room.store.read(lambda db: queries.get(db, call.caller, attachment_id)))


async def complete(call: Call) -> Reply:
    """os-complete."""
    attachment_id = call.path["attachment_id"]
    await call.room.store.write(lambda db: intents.complete(db, call.room.outside, call.caller, attachment_id))
    return Reply(204)


async def delete(call: Call) -> Reply:
    """DELETE /attachments/{attachment_id}: the answer is what the volume has left."""
    attachment_id = call.path["attachment_id"]
    row = await call.room.store.read(lambda db: queries.get(db, call.caller, attachment_id))
    await check_one(call, row)
    await done(
        call,
        lambda db: intents.disconnect(db, call.room.outside, call.caller, attachment_id),
        lambda work: work,
        "Unable to delete the attachment.",
    )
    left = await call.room.store.read(lambda db: queries.of_volumes(db, [row["volume_id"]]))
    return Reply(body={"attachments": [views.summary(each) for each in left.get(row["volume_id"], [])]})


async def _list(call: Call, view: Callable[[AttachmentRow], dict[str, Any]]) -> Reply:
    page, everyone = page_of(call, _SORT_KEYS), all_tenants(call)
    asked = filters_of(call, "attachment", _KNOWN)

    def work(db: Connection) -> list[AttachmentRow]:
        marker = queries.sort_values(db, call.caller, page.marker) if page.marker is not None else None
        try:
            conditions = queries.conditions(asked)
        except NothingMatchesError:
            return []
        statement = queries.listing(call.caller, conditions, all_projects=everyone)
        return queries.rows(db.execute(apply_page(statement, queries.SORTABLE, page, marker)))

    rows = await call.room.store.read(work)
    return Reply(body={"attachments": [view(row) for row in rows]})


def _one(row: AttachmentRow) -> Reply:
    return Reply(body={"attachment": views.detail(row)})


_ALL: Final = "/attachments"
_ONE: Final = f"{_ALL}/{{attachment_id}}"
_QUERY: Final = (
    *("limit", "marker", "offset", "sort", "sort_key", "sort_dir", "all_tenants"),
    *ALLOWED["attachment"],
)

ROUTES: tuple[Route, ...] = (
    Route("GET", _ALL, index, "-", "List attachments", since=_SINCE, reply=schemas.AttachmentsReply, query=_QUERY),
    Route(
        "GET",
        f"{_ALL}/detail",
        detail,
        "-",
        "List attachments with details",
        since=_SINCE,
        reply=schemas.AttachmentsDetailReply,
        query=_QUERY,
    ),
    Route(
        "POST",
        _ALL,
        create,
        "volume:attachment_create",
        "Reserve or connect a volume",
        since=_SINCE,
        body=((_SINCE, schemas.CreateAttachment), (_MODE_SINCE, schemas.CreateAttachment54)),
        reply=schemas.AttachmentReply,
    ),
    Route("GET", _ONE, show, "-", "Show an attachment", since=_SINCE, reply=schemas.AttachmentReply),
    Route(
        "PUT",
        _ONE,
        update,
        "volume:attachment_update",
        "Connect a reserved volume",
        since=_SINCE,
        body=schemas.UpdateAttachment,
        reply=schemas.AttachmentReply,
    ),
    Route(
        "DELETE",
        _ONE,
        delete,
        "volume:attachment_delete",
        "Disconnect a volume",
        since=_SINCE,
        reply=schemas.AttachmentsReply,
    ),
)
ACTIONS: tuple[Action, ...] = (
    Action(
        _ONE,
        "os-complete",
        complete,
        "volume:attachment_complete",
        "Say that the consumer has the volume",
        status=204,
        since=_COMPLETE_SINCE,
    ),
    *actions.ACTIONS,
)
