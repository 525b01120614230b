"""The volume routes: lists, show, create, update, delete, summary, encryption."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from sqlalchemy import Connection

from cluster.attachments.queries import AttachmentRow, of_volumes
from cluster.errors import InvalidInputError, NotFoundError
from cluster.volumes import edits, filters, intents, queries
from cluster.volumes.choices import DefaultTypeMissingError
from cluster.volumes.deletion import delete_volume
from cluster.volumes.queries import VolumeRow
from cluster.volumes.records import AttachStatus, VolumeStatus
from serve_app.attachments import views as attachment_views
from serve_app.identity.policy import allows
from serve_app.volumes import actions, metadata, schemas, views
from serve_app.volumes.filters import volume_filters
from serve_app.wire.faults import BadRequest, Fault, Forbidden, NotFound
from serve_app.wire.paging import all_tenants, apply_page, boolean_of, next_links, page_of, with_count
from serve_app.wire.route import Action, Call, Reply, Route

_Attached = Mapping[str, list[AttachmentRow]]
_SORT_KEYS: Final = frozenset(queries.SORTABLE)
_MULTIATTACH: Final = (
    "multiattach parameter has been removed. The default behavior is to use multiattach enabled volume types. Contact "
    "your administrator to create a multiattach enabled volume type and use it to create multiattach volumes."
)
_NO_IMAGE: Final = "Invalid image identifier or unable to access requested image."


async def index(call: Call) -> Reply:
    """GET /volumes."""
    return await _list(call, "volumes")


async def detail(call: Call) -> Reply:
    """GET /volumes/detail."""
    return await _list(call, "volumes/detail", detailed=True)


async def show(call: Call) -> Reply:
    """GET /volumes/{volume_id}."""

    def work(db: Connection) -> tuple[VolumeRow, _Attached]:
        row = queries.get(db, call.caller, call.path["volume_id"])
        return row, _attached(db, [row])

    row, attached = await call.room.store.read(work)
    return Reply(body={"volume": _detail(call, attached)(row)})


async def summary(call: Call) -> Reply:
    """GET /volumes/summary, from 3.12."""
    everyone = all_tenants(call)
    number, size, values = await call.room.store.read(
        lambda db: queries.summary(db, call.caller, all_projects=everyone)
    )
    totals: dict[str, object] = {"total_count": number, "total_size": size}
    return Reply(body={"volume-summary": totals | ({"metadata": values} if call.minor >= 36 else {})})


async def create(call: Call) -> Reply:
    """POST /volumes."""
    wanted = _wanted(call)
    room = call.room
    try:
        row = await room.store.write(lambda db: intents.create(db, room.settings, room.outside, call.caller, wanted))
    except DefaultTypeMissingError as error:
        raise Fault(str(error)) from error
    room.ring()
    return Reply(202, {"volume": views.detail(call, extended=False)(row)})


async def update(call: Call) -> Reply:
    """PUT /volumes/{volume_id}."""
    body: schemas.UpdateBody = call.body
    room, changes = call.room, body.volume.changes()

    def work(db: Connection) -> tuple[VolumeRow, _Attached]:
        row = edits.edit(db, room.outside, call.caller, call.path["volume_id"], changes)
        return row, _attached(db, [row])

    row, attached = await room.store.write(work)
    return Reply(body={"volume": _detail(call, attached, extended=False)(row)})


async def delete(call: Call) -> Reply:
    """DELETE /volumes/{volume_id}; `force` from 3.23."""
    cascade, force = boolean_of(call, "cascade"), call.minor >= 23 and boolean_of(call, "force")
    room, volume_id = call.room, call.path["volume_id"]

    def work(db: Connection) -> bool:
        if force and not allows("volume:force_delete", call.caller):
            queries.get(db, call.caller, volume_id)
            raise Forbidden("Policy doesn't allow volume:force_delete to be performed.")
        return delete_volume(db, room.outside, call.caller, volume_id, cascade=cascade, force=force)

    if await room.store.write(work):
        room.ring()
    return Reply(202)


async def encryption(call: Call) -> Reply:
    """GET /volumes/{volume_id}/encryption: Pumice encrypts no volumes, so there is only the null key id."""
    await call.room.store.read(lambda db: queries.get(db, call.caller, call.path["volume_id"]))
    return Reply(body={"encryption_key_id": None})


async def encryption_item(call: Call) -> Reply:
    """GET /volumes/{volume_id}/encryption/{key}: the bare value, which is empty. Cinder breaks (500) on other keys."""
    await call.room.store.read(lambda db: queries.get(db, call.caller, call.path["volume_id"]))
    if call.path["key"] != "encryption_key_id":
        raise NotFound(f"Volume {call.path['volume_id']} is not encrypted and has no {call.path['key'][:255]}.")
    return Reply()


def _attached(db: Connection, rows: Iterable[VolumeRow]) -> _Attached:
    """The attachments of those of the volumes that may have any: none of a page is asked about alone."""
    ids = [
        row["id"]
        for row in rows
        if row["status"] != VolumeStatus.AVAILABLE or row["attach_status"] != AttachStatus.DETACHED
    ]
    return of_volumes(db, ids) if ids else {}


def _detail(call: Call, attached: _Attached, *, extended: bool = True) -> views.View:
    return views.detail(call, attachment_views.of_volumes(call.caller, attached), extended=extended)


async def _list(call: Call, collection: str, *, detailed: bool = False) -> Reply:
    page, asked, everyone, counted = (
        page_of(call, _SORT_KEYS),
        volume_filters(call),
        all_tenants(call),
        with_count(call),
    )

    def work(db: Connection) -> tuple[list[VolumeRow], int, _Attached]:
        marker = queries.sort_values(db, call.caller, page.marker) if page.marker is not None else None
        try:
            conditions = filters.conditions(asked)
        except filters.NothingMatchesError:
            return [], 0, {}
        statement, parameters = queries.listing(call.caller, conditions, all_projects=everyone)
        total = queries.count(db, statement, parameters) if counted else 0
        paged = apply_page(statement, queries.SORTABLE, page, marker)
        found = queries.rows(db.execute(paged, parameters))
        return found, total, _attached(db, found) if detailed else {}

    rows, total, attached = await call.room.store.read(work)
    view = _detail(call, attached) if detailed else views.summary(call)
    body: dict[str, Any] = {"volumes": [view(row) for row in rows]}
    body |= next_links(call, collection, page, rows, rows[-1]["id"] if rows else None)
    return Reply(body=body | ({"count": total} if counted else {}))


def _wanted(call: Call) -> intents.NewVolume:
    """What the body asks for. What Pumice has not (images, backups, groups) is answered as Cinder answers for one
    that does not exist. Raises BadRequest, NotFoundError."""
    body: schemas.CreateBody = call.body
    volume = body.volume
    for kind, asked in (
        ("Group", volume.consistencygroup_id),
        ("Group", getattr(volume, "group_id", None)),
    ):
        if asked is not None:
            raise NotFoundError.of(kind, asked)
    if volume.image_id is not None or volume.image_ref is not None:
        raise BadRequest(_NO_IMAGE)
    if backup_id := getattr(volume, "backup_id", None):
        raise NotFoundError.of("Backup", backup_id)
    if volume.multiattach:
        raise BadRequest(_MULTIATTACH)
    if volume.snapshot_id is not None and volume.source_volid is not None:
        raise InvalidInputError(
            "Invalid input received: May specify only one of backup, imageRef, snapshot, source volume"
        )
    named = volume.changes()
    return intents.NewVolume(
        size_gib=volume.size,
        name=_text(named.get("name")),
        description=_text(named.get("description")),
        volume_type=volume.volume_type or None,
        availability_zone=volume.availability_zone,
        metadata=volume.metadata or {},
        snapshot_id=volume.snapshot_id,
        source_volid=volume.source_volid,
        hints=body.hints.given() if body.hints else {},
        multiattach_permitted=allows("volume:multiattach", call.caller),
    )


def _text(value: object) -> str | None:
    return None if value is None else str(value)


_ONE: Final = "/volumes/{volume_id}"
_PAGING: Final = ("limit", "marker", "offset", "sort", "sort_key", "sort_dir", "all_tenants", "with_count")
_FILTERS: Final = (
    "name",
    "status",
    "metadata",
    "bootable",
    "migration_status",
    "availability_zone",
    "group_id",
    "size",
)
_LATER: Final = ("created_at", "updated_at", "consumes_quota", "glance_metadata", "host")
_QUERY: Final = (*_PAGING, *_FILTERS, *_LATER)
_ENCRYPTION: Final = "volume_extension:volume_encryption_metadata"
_CREATE: Final = (
    (0, schemas.CreateBody),
    (13, schemas.CreateBody13),
    (47, schemas.CreateBody47),
    (53, schemas.CreateBody53),
)
_UPDATE: Final = ((0, schemas.UpdateBody), (53, schemas.UpdateBody53))

ROUTES: tuple[Route, ...] = (
    Route("GET", "/volumes", index, "volume:get_all", "List volumes", reply=schemas.VolumesReply, query=_QUERY),
    Route(
        "GET",
        "/volumes/detail",
        detail,
        "volume:get_all",
        "List volumes with details",
        reply=schemas.VolumesDetailReply,
        query=_QUERY,
    ),
    Route(
        "GET",
        "/volumes/summary",
        summary,
        "volume:get_all",
        "Number and size of all volumes",
        since=12,
        reply=schemas.TotalsReply,
        query=("all_tenants",),
    ),
    Route(
        "POST",
        "/volumes",
        create,
        "volume:create",
        "Create a volume",
        status=202,
        body=_CREATE,
        reply=schemas.VolumeReply,
    ),
    Route("GET", _ONE, show, "volume:get", "Show a volume", reply=schemas.VolumeReply),
    Route(
        "PUT",
        _ONE,
        update,
        "volume:update",
        "Change name, description or metadata",
        body=_UPDATE,
        reply=schemas.VolumeReply,
    ),
    Route("DELETE", _ONE, delete, "volume:delete", "Delete a volume", status=202, query=("cascade", "force")),
    Route(
        "GET",
        f"{_ONE}/encryption",
        encryption,
        _ENCRYPTION,
        "Show how a volume is encrypted",
        reply=schemas.EncryptionReply,
    ),
    Route("GET", f"{_ONE}/encryption/{{key}}", encryption_item, _ENCRYPTION, "Show one value of the encryption"),
    *metadata.ROUTES,
)
ACTIONS: tuple[Action, ...] = actions.ACTIONS
