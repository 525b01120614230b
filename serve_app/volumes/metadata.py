"""The metadata of a volume, with the ETag that 3.15 brought.

The tag is the MD5 of the JSON text of the reply; a change that comes with `If-Match` is made only if what is there
has one of the tags named. The check and the change are one transaction.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from typing import Final

from cluster.errors import NotFoundError
from cluster.volumes import edits, queries
from serve_app.volumes import schemas
from serve_app.wire.faults import BadRequest, PreconditionFailed
from serve_app.wire.route import Call, Reply, Route

_ETAGS_FROM: Final = 15
_TAG: Final = re.compile(r'(W/)?"([^"]*)"')


async def index(call: Call) -> Reply:
    """GET …/metadata. From 3.15 on Cinder names the JSON text/html, and so does this."""
    found = await _metadata(call)
    if call.minor < _ETAGS_FROM:
        return Reply(body={"metadata": found})
    text = _text(found)
    return Reply(body=text, headers={"ETag": _tag(text), "Content-Type": "text/html; charset=UTF-8"})


async def create(call: Call) -> Reply:
    """POST …/metadata: add."""
    return await _put(call, replace=False, guarded=False)


async def replace(call: Call) -> Reply:
    """PUT …/metadata: replace all."""
    return await _put(call, replace=True, guarded=True)


async def show(call: Call) -> Reply:
    """GET …/metadata/{key}."""
    key, found = call.path["key"], await _metadata(call)
    if key not in found:
        raise NotFoundError(f"Volume {call.path['volume_id']} has no metadata with key {key}.")
    return Reply(body={"meta": {key: found[key]}})


async def put(call: Call) -> Reply:
    """PUT …/metadata/{key}."""
    body: schemas.MetaBody = call.body
    if call.path["key"] not in body.meta:
        raise BadRequest("Request body and URI mismatch")
    volume_id, guard = call.path["volume_id"], _guard(call)
    await call.room.store.write(lambda db: edits.put_metadata(db, call.caller, volume_id, body.meta, guard=guard))
    return Reply(body={"meta": body.meta})


async def delete(call: Call) -> Reply:
    """DELETE …/metadata/{key}."""
    volume_id, key = call.path["volume_id"], call.path["key"]
    await call.room.store.write(lambda db: edits.drop_metadata(db, call.caller, volume_id, key))
    return Reply()


async def _metadata(call: Call) -> dict[str, str]:
    row = await call.room.store.read(lambda db: queries.get(db, call.caller, call.path["volume_id"]))
    return row["user_metadata"]


async def _put(call: Call, *, replace: bool, guarded: bool) -> Reply:
    body: schemas.MetadataBody = call.body
    volume_id, guard = call.path["volume_id"], _guard(call) if guarded else None
    left = await call.room.store.write(
        lambda db: edits.put_metadata(db, call.caller, volume_id, body.metadata, replace=replace, guard=guard)
    )
    return Reply(body={"metadata": left})


def _guard(call: Call) -> edits.Guard | None:
    header = call.headers.get("if-match") if call.minor >= _ETAGS_FROM else None
    if header is None or header.strip() == "*":
        return None
    quoted = _TAG.findall(header)
    # A weak tag never matches here; a tag without quotes is taken as it stands.
    tags = {tag for weak, tag in quoted if not weak} if quoted else {header.strip()}

    def guard(found: Mapping[str, str]) -> None:
        if _tag(_text(found)) not in tags:
            raise PreconditionFailed("The metadata has changed.")

    return guard


def _text(found: Mapping[str, str]) -> bytes:
    return json.dumps({"metadata": found}).encode()


def _tag(text: bytes) -> str:
    return hashlib.md5(text, usedforsecurity=False).hexdigest()


_ALL: Final = "/volumes/{volume_id}/metadata"
_ONE: Final = f"{_ALL}/{{key}}"
_GET: Final = "volume:get_volume_metadata"
_UPDATE: Final = "volume:update_volume_metadata"

ROUTES: tuple[Route, ...] = (
    Route("GET", _ALL, index, _GET, "List the metadata of a volume", reply=schemas.MetadataReply),
    Route(
        "POST",
        _ALL,
        create,
        "volume:create_volume_metadata",
        "Add to the metadata of a volume",
        body=schemas.MetadataBody,
        reply=schemas.MetadataReply,
    ),
    Route(
        "PUT",
        _ALL,
        replace,
        _UPDATE,
        "Replace the metadata of a volume",
        body=schemas.MetadataBody,
        reply=schemas.MetadataReply,
    ),
    Route("GET", _ONE, show, _GET, "Show one item of a volume's metadata", reply=schemas.MetaReply),
    Route(
        "PUT",
        _ONE,
        put,
        _UPDATE,
        "Set one item of a volume's metadata",
        body=schemas.MetaBody,
        reply=schemas.MetaReply,
    ),
    Route("DELETE", _ONE, delete, "volume:delete_volume_metadata", "Delete one item of a volume's metadata"),
)
