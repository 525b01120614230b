"""Volume types as the wire shows them, to whom it may show what."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cluster.caller import Caller
from serve_app.identity.policy import allows

# Extra specs that everybody may see; the others can tell how the storage is built.
VISIBLE_SPECS = ("RESKEY:availability_zones", "multiattach", "replication_enabled")


def sees_all_specs(caller: Caller) -> bool:
    """Whether the caller may see every extra spec."""
    return allows("volume_extension:types_extra_specs:read_sensitive", caller)


def specs(caller: Caller, row: Mapping[str, Any]) -> dict[str, str]:
    """The extra specs of a type that the caller may see."""
    stored: Mapping[str, str] = row["extra_specs"]
    if sees_all_specs(caller):
        return dict(stored)
    return {key: stored[key] for key in VISIBLE_SPECS if key in stored}


def volume_type(caller: Caller, row: Mapping[str, Any], *, with_access: bool = True) -> dict[str, Any]:
    """One type. `with_access`: with `os-volume-type-access:is_public`, which the answers to an update and to
    `types/default` lack."""
    shown = {key: row[key] for key in ("id", "name", "is_public", "description")}
    if allows("volume_extension:access_types_extra_specs", caller):
        shown["extra_specs"] = specs(caller, row)
    if allows("volume_extension:access_types_qos_specs_id", caller):
        shown["qos_specs_id"] = row["qos_specs_id"]
    if with_access and allows("volume_extension:volume_type_access", caller):
        shown["os-volume-type-access:is_public"] = row["is_public"]
    return shown
