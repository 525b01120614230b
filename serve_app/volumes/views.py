"""Volumes as the wire shows them: exactly the keys of each microversion (json_shapes §2, volume).

`detail` and `summary` are asked once a request and give the function that is then called for every row: what depends
on the caller and the microversion is looked up before the page, not for each volume of it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from cluster.volumes.queries import VolumeRow
from serve_app.identity.policy import allows
from serve_app.wire.links import links
from serve_app.wire.route import Call

# Attachments as the wire shows them, by volume id.
Attachments = Mapping[str, list[dict[str, Any]]]
View = Callable[[VolumeRow], dict[str, Any]]

_VISIBLE: Final = ("readonly", "attached_mode")
_SHOWN_AS: Final = {
    "managing": "creating",
    "error_managing": "error",
    "error_managing_deleting": "deleting",
}
# The id of Cinder's fixed key, which is no secret worth naming.
_FIXED_KEY: Final = "00000000-0000-0000-0000-000000000000"
_NONE: Final[Attachments] = {}


def summary(call: Call) -> View:
    """The short form."""

    def view(row: VolumeRow) -> dict[str, Any]:
        return {"id": row["id"], "name": row["name"], "links": links(call, "volumes", row["id"])}

    return view


def detail(call: Call, attachments: Attachments = _NONE, *, extended: bool = True) -> View:
    """The long form. `extended` False leaves out what replies to create and update do not have."""
    minor, admin = call.minor, call.caller.is_admin

    def may(rule: str) -> bool:
        return extended and allows(rule, call.caller)

    host, tenant = may("volume_extension:volume_host_attribute"), may("volume_extension:volume_tenant_attribute")
    migration = may("volume_extension:volume_mig_status_attribute")
    image = may("volume_extension:volume_image_metadata:show")

    def view(row: VolumeRow) -> dict[str, Any]:
        status, volume_id = row["status"], row["id"]
        shown: dict[str, Any] = {
            "id": volume_id,
            "status": _SHOWN_AS.get(status, status),
            "size": row["size_gib"],
            "availability_zone": row["availability_zone"],
            "created_at": row["created_at"],
            "updated_at": row["updated_at"],
            "name": row["name"],
            "description": row["description"],
            "volume_type": row["volume_type_name"] or (row["volume_type_id"] if minor < 63 else None),
            "snapshot_id": row["snapshot_id"],
            "source_volid": row["source_volid"],
            "metadata": _metadata(row),
            "links": links(call, "volumes", volume_id),
            "user_id": row["user_id"],
            "bootable": "true" if row["bootable"] else "false",
            "encrypted": row["encrypted"],
            "replication_status": row["replication_status"],
            "consistencygroup_id": None,
            "multiattach": row["multiattach"],
            "attachments": attachments.get(volume_id) or [],
        }
        if admin:
            shown["migration_status"] = row["migration_status"]
        if host:
            shown["os-vol-host-attr:host"] = row["host"]
        if tenant:
            shown["os-vol-tenant-attr:tenant_id"] = row["project_id"]
        if migration:
            shown["os-vol-mig-status-attr:migstat"] = row["migration_status"]
            shown["os-vol-mig-status-attr:name_id"] = None
        if image and row["image_metadata"]:
            shown["volume_image_metadata"] = row["image_metadata"]
        if minor >= 13:
            _versioned(shown, row, minor, admin)
        return shown

    return view


def _versioned(shown: dict[str, Any], row: VolumeRow, minor: int, admin: bool) -> None:
    shown["group_id"] = row["group_id"]
    if admin and minor >= 21:
        shown["provider_id"] = row["provider_id"]
    if minor >= 48:
        shared = row["shared_targets"]
        shown["shared_targets"] = True if shared is None and minor < 69 else shared
        shown["service_uuid"] = row["service_uuid"]
    if admin and minor >= 61:
        shown["cluster_name"] = row["cluster_name"]
    if minor >= 63:
        shown["volume_type_id"] = row["volume_type_id"]
    if minor >= 64 and row["encryption_key_id"] not in (None, _FIXED_KEY):
        shown["encryption_key_id"] = row["encryption_key_id"]
    if minor >= 65:
        shown["consumes_quota"] = row["consumes_quota"]


def _metadata(row: VolumeRow) -> dict[str, str]:
    own = row["admin_metadata"]
    if not own:
        return row["user_metadata"]
    return row["user_metadata"] | {key: own[key] for key in _VISIBLE if key in own}
