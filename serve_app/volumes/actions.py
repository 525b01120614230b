"""The actions of a volume (`POST /volumes/{volume_id}/action`) on the volume itself: extend, flags, states, image
metadata, force delete. Those on who has it are in `serve_app.attachments.actions`."""

from __future__ import annotations

from typing import Annotated, Final, Self

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field, WithJsonSchema, model_validator

from cluster.volumes import edits, intents, queries
from cluster.volumes.deletion import delete_volume
from cluster.volumes.records import VolumeStatus
from cluster.volumes.refusals import invalid_volume
from serve_app.identity.policy import allows
from serve_app.volumes.schemas import MetadataReply
from serve_app.wire.fields import METADATA_KEY, SizeGib, StrictBoolean, refusal
from serve_app.wire.route import Action, Body, Call, Reply

_STATUSES: Final = tuple(status.value for status in VolumeStatus)
_ATTACH_STATUSES: Final = ("attached", "detached")
_MIGRATION_STATUSES: Final = ("migrating", "error", "success", "completing", "none", "starting")
_EXTEND_IN_USE_FROM: Final = 42
_EXTEND_COMPLETION_FROM: Final = 71
_LONGEST_IMAGE_VALUE: Final = 65535
_IMAGE_SCHEMA: Final = {
    "type": "object",
    "propertyNames": {"pattern": r"^[a-zA-Z0-9_:. /-]{1,255}$"},
    "additionalProperties": {"type": "string", "maxLength": _LONGEST_IMAGE_VALUE},
}


def _schema(valid: tuple[str, ...]) -> WithJsonSchema:
    return WithJsonSchema({"type": "string", "enum": list(valid)})


def _one_of(what: str, valid: tuple[str, ...]) -> AfterValidator:
    def check(value: str) -> str:
        if value and value.lower() not in valid:
            raise refusal(f"Volume {what}: {value[:255]} is invalid, valid statuses are: {list(valid)}.")
        return value.lower()

    return AfterValidator(check)


def _image_metadata(value: object) -> object:
    if isinstance(value, dict):
        for key, text in value.items():
            if not METADATA_KEY.fullmatch(key):
                raise refusal(f"{key[:255]!r} does not match any of the regexes: '^[a-zA-Z0-9-_:. /]{{1,255}}$'")
            if isinstance(text, str) and len(text.encode()) > _LONGEST_IMAGE_VALUE:
                raise refusal(f"The value of {key!r} is too long")
    return value


class Extend(Body):
    """The new size in GiB."""

    new_size: SizeGib


class ExtendCompletion(Body):
    """How the extension went on the side of the server."""

    error: StrictBoolean = False


class Readonly(Body):
    """Whether the volume may only be read."""

    readonly: StrictBoolean


class Bootable(Body):
    """Whether the volume holds a system to boot."""

    bootable: StrictBoolean


class ResetStatus(Body):
    """The states to write; at least one of them."""

    model_config = ConfigDict(json_schema_extra={"minProperties": 1})

    status: Annotated[str, _one_of("status", _STATUSES), _schema(_STATUSES)] | None = None
    attach_status: Annotated[str, _one_of("attach status", _ATTACH_STATUSES), _schema(_ATTACH_STATUSES)] | None = None
    migration_status: (
        Annotated[str, _one_of("migration status", _MIGRATION_STATUSES), _schema(_MIGRATION_STATUSES)] | None
    ) = None

    @model_validator(mode="after")
    def _one_at_least(self) -> Self:
        if not (self.status or self.attach_status or self.migration_status):
            raise refusal("Must specify 'status', 'attach_status' or 'migration_status' for update.")
        return self


class SetImageMetadata(Body):
    """What is to be added to the image's metadata."""

    metadata: Annotated[dict[str, str], BeforeValidator(_image_metadata), WithJsonSchema(_IMAGE_SCHEMA)]


class UnsetImageMetadata(Body):
    """The key to remove from the image's metadata."""

    key: Annotated[str, Field(min_length=1, max_length=255)]


async def extend(call: Call) -> Reply:
    """os-extend."""
    body: Extend = call.body
    room, volume_id = call.room, call.path["volume_id"]
    in_use, permitted = call.minor >= _EXTEND_IN_USE_FROM, allows("volume:extend_attached_volume", call.caller)
    await room.store.write(
        lambda db: intents.extend(
            db,
            room.settings,
            room.outside,
            call.caller,
            volume_id,
            body.new_size,
            in_use=in_use,
            in_use_permitted=permitted,
        )
    )
    room.ring()
    return Reply(202)


async def extend_volume_completion(call: Call) -> Reply:
    """os-extend_volume_completion: Nova's word on an extension that waits for it. None does here, for the storage grows
    a volume before its servers are told; so the answer is Cinder's for a volume without such an extension."""
    volume_id = call.path["volume_id"]
    row = await call.room.store.read(lambda db: queries.get(db, call.caller, volume_id))
    raise invalid_volume(
        f"Volume {volume_id} (status {row['status']}) does not wait for the Compute service to complete an extension."
    )


async def update_readonly_flag(call: Call) -> Reply:
    """os-update_readonly_flag."""
    body: Readonly = call.body
    volume_id = call.path["volume_id"]
    await call.room.store.write(lambda db: edits.set_readonly(db, call.caller, volume_id, body.readonly))
    return Reply(202)


async def set_bootable(call: Call) -> Reply:
    """os-set_bootable."""
    body: Bootable = call.body
    room, volume_id = call.room, call.path["volume_id"]
    changes = {"bootable": body.bootable}
    await room.store.write(lambda db: edits.edit(db, room.outside, call.caller, volume_id, changes))
    return Reply()


async def reset_status(call: Call) -> Reply:
    """os-reset_status."""
    body: ResetStatus = call.body
    room, volume_id, states = call.room, call.path["volume_id"], body.model_dump()
    await room.store.write(lambda db: edits.reset_status(db, room.outside, call.caller, volume_id, **states))
    room.ring()
    return Reply(202)


async def force_delete(call: Call) -> Reply:
    """os-force_delete."""
    room, volume_id = call.room, call.path["volume_id"]
    if await room.store.write(lambda db: delete_volume(db, room.outside, call.caller, volume_id, force=True)):
        room.ring()
    return Reply(202)


async def set_image_metadata(call: Call) -> Reply:
    """os-set_image_metadata."""
    body: SetImageMetadata = call.body
    volume_id = call.path["volume_id"]
    left = await call.room.store.write(lambda db: edits.put_image_metadata(db, call.caller, volume_id, body.metadata))
    return Reply(body={"metadata": left})


async def unset_image_metadata(call: Call) -> Reply:
    """os-unset_image_metadata."""
    body: UnsetImageMetadata = call.body
    volume_id = call.path["volume_id"]
    await call.room.store.write(lambda db: edits.drop_image_metadata(db, call.caller, volume_id, body.key))
    return Reply()


async def show_image_metadata(call: Call) -> Reply:
    """os-show_image_metadata."""
    row = await call.room.store.read(lambda db: queries.get(db, call.caller, call.path["volume_id"]))
    return Reply(body={"metadata": row["image_metadata"] or {}})


_PATH: Final = "/volumes/{volume_id}"
_ADMIN: Final = "volume_extension:volume_admin_actions:"
_IMAGE: Final = "volume_extension:volume_image_metadata:"

ACTIONS: tuple[Action, ...] = (
    Action(_PATH, "os-extend", extend, "volume:extend", "Make a volume larger", body=Extend),
    Action(
        _PATH,
        "os-extend_volume_completion",
        extend_volume_completion,
        f"{_ADMIN}extend_volume_completion",
        "Say how a server took a volume's growth",
        since=_EXTEND_COMPLETION_FROM,
        body=ExtendCompletion,
    ),
    Action(
        _PATH,
        "os-update_readonly_flag",
        update_readonly_flag,
        "volume:update_readonly_flag",
        "Say whether a volume may only be read",
        body=Readonly,
    ),
    Action(
        _PATH,
        "os-set_bootable",
        set_bootable,
        "volume:update",
        "Say whether a volume can be booted from",
        status=200,
        body=Bootable,
    ),
    Action(
        _PATH, "os-reset_status", reset_status, f"{_ADMIN}reset_status", "Write a volume's states", body=ResetStatus
    ),
    Action(_PATH, "os-force_delete", force_delete, f"{_ADMIN}force_delete", "Delete a volume in any state"),
    Action(
        _PATH,
        "os-set_image_metadata",
        set_image_metadata,
        f"{_IMAGE}set",
        "Add to the image's metadata",
        status=200,
        body=SetImageMetadata,
        reply=MetadataReply,
    ),
    Action(
        *(
            _PATH,
            "os-unset_image_metadata",
            unset_image_metadata,
            f"{_IMAGE}remove",
            "Remove from the image's metadata",
        ),
        status=200,
        body=UnsetImageMetadata,
    ),
    Action(
        _PATH,
        "os-show_image_metadata",
        show_image_metadata,
        f"{_IMAGE}show",
        "Show the image's metadata",
        status=200,
        reply=MetadataReply,
    ),
)
