"""What the NBD daemon serves: nodes, limits and exports, made and removed over QMP. Knows no process.

A volume has one file node, whatever many connections it has; a connection has a throttle node over it with a group of
its own, and an export of that. Everything is named after the ids, and the export's id says mode, connection and volume,
so the daemon itself is the record of what is served:

    file node v<volume> ── throttle node t<connection> (group g<connection>) ── export e<r|w><connection>.<volume>
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from drivers.exports.qmp import Conversation, RefusedError
from drivers.exports.short_names import LENGTH, restore, shorten
from drivers.vocabulary import AccessMode, BackendUnavailableError, ConnectionItem, Limits, UncertainError

_REMOVAL_SECONDS: Final = 30.0
_THROTTLES: Final[Mapping[str, str]] = {
    "total_iops": "iops-total",
    "read_iops": "iops-read",
    "write_iops": "iops-write",
    "total_bytes": "bps-total",
    "read_bytes": "bps-read",
    "write_bytes": "bps-write",
}
_MODES: Final[Mapping[str, AccessMode]] = {"r": AccessMode.READ_ONLY, "w": AccessMode.READ_WRITE}


@dataclass(frozen=True, slots=True)
class Served:
    """One export of the daemon."""

    item: ConnectionItem
    mode: AccessMode

    @property
    def export_id(self) -> str:
        """Its id in the daemon."""
        letter = "w" if self.mode is AccessMode.READ_WRITE else "r"
        return f"e{letter}{shorten(self.item.id)}.{shorten(self.item.volume_id)}"


async def served(talk: Conversation) -> list[Served]:
    """Every export, without those that are going."""
    found = await talk("query-block-exports")
    return [
        Served(ConnectionItem(restore(export["id"][2 : 2 + LENGTH]), restore(export["id"][-LENGTH:])), mode)
        for export in found
        if not export["shutting-down"] and (mode := _MODES.get(export["id"][1:2])) is not None
    ]


async def ensure(talk: Conversation, wanted: Served, path: Path, limits: Limits) -> None:
    """The export is there, with these limits from now on. Raises BackendUnavailableError."""
    present = {export.item.id: export for export in await served(talk)}.get(wanted.item.id)
    if present == wanted:
        await _limit(talk, wanted.item.id, limits)
        return
    await remove(talk, wanted.item.id)
    connection, volume = _names(wanted.item)
    read_only = wanted.mode is AccessMode.READ_ONLY
    try:
        if volume not in await _nodes(talk):
            await talk(
                "blockdev-add",
                {
                    "driver": "file",
                    "node-name": volume,
                    "filename": str(path),
                    "cache": {"direct": True},
                    "discard": "unmap",
                },
            )
        await talk("object-add", {"qom-type": "throttle-group", "id": f"g{connection}", "limits": _throttles(limits)})
        await talk(
            "blockdev-add",
            {
                "driver": "throttle",
                "node-name": f"t{connection}",
                "throttle-group": f"g{connection}",
                "file": volume,
                "discard": "unmap",
                "read-only": read_only,
            },
        )
        await talk(
            "block-export-add",
            {
                "type": "nbd",
                "id": wanted.export_id,
                "node-name": f"t{connection}",
                "name": wanted.item.id,
                "writable": not read_only,
            },
        )
    except RefusedError as error:
        await remove(talk, wanted.item.id, wanted.item.volume_id)
        raise BackendUnavailableError(f"connection {wanted.item.id} was refused by the NBD daemon: {error}") from error


async def remove(talk: Conversation, connection_id: str, volume_id: str | None = None) -> None:
    """No such export, its sessions ended; what it stood on goes with the last that stands on it. Raises UncertainError
    when a session does not end."""
    exports = await served(talk)
    short = shorten(connection_id)
    deadline = asyncio.get_running_loop().time() + _REMOVAL_SECONDS
    volumes = {shorten(volume_id)} if volume_id else set()
    while gone := [e for e in await talk("query-block-exports") if e["id"][2 : 2 + LENGTH] == short]:
        volumes |= {export["id"][-LENGTH:] for export in gone}
        for export in gone:
            if not export["shutting-down"]:
                await talk("block-export-del", {"id": export["id"], "mode": "hard"})
        if asyncio.get_running_loop().time() > deadline:
            raise UncertainError(f"sessions of connection {connection_id} do not end; the same call must be repeated")
        await asyncio.sleep(0.005)
    nodes = await _nodes(talk)
    if f"t{short}" in nodes:
        await talk("blockdev-del", {"node-name": f"t{short}"})
    if await _has_group(talk, short):
        await talk("object-del", {"id": f"g{short}"})
    still = {shorten(e.item.volume_id) for e in exports if e.item.id != connection_id}
    for volume in volumes - still:
        if f"v{volume}" in nodes:
            await talk("blockdev-del", {"node-name": f"v{volume}"})


async def limits_of(talk: Conversation, connection_id: str) -> Limits:
    """The limits that a connection has now."""
    found = await talk("qom-get", {"path": f"/objects/g{shorten(connection_id)}", "property": "limits"})
    return Limits(**{name: found.get(throttle) or None for name, throttle in _THROTTLES.items()})


async def size_bytes(talk: Conversation, volume_id: str) -> int | None:
    """The size that the volume's node has, or None when it has no node."""
    node = (await _nodes(talk)).get(f"v{shorten(volume_id)}")
    return None if node is None else int(node["image"]["virtual-size"])


async def _limit(talk: Conversation, connection_id: str, limits: Limits) -> None:
    path = f"/objects/g{shorten(connection_id)}"
    await talk("qom-set", {"path": path, "property": "limits", "value": _throttles(limits)})


async def _nodes(talk: Conversation) -> dict[str, Any]:
    return {node["node-name"]: node for node in await talk("query-named-block-nodes", {"flat": True})}


async def _has_group(talk: Conversation, short: str) -> bool:
    try:
        objects = await talk("qom-list", {"path": "/objects"})
    except RefusedError:  # there is no such path before the first object
        return False
    return any(found["name"] == f"g{short}" for found in objects)


def _names(item: ConnectionItem) -> tuple[str, str]:
    return shorten(item.id), f"v{shorten(item.volume_id)}"


def _throttles(limits: Limits) -> dict[str, int]:
    return {throttle: getattr(limits, name) or 0 for name, throttle in _THROTTLES.items()}
