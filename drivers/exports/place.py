"""Where an export's state is, and where a consumer is, as its connector tells. Knows no protocol."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from drivers.reflink import durable

_ELSEWHERE: Final = "elsewhere"
_NETWORK_KINDS: Final = ("ip", "initiator", "nqn", "wwpns")


def own_directory(state_dir: Path, backend: str, export: str) -> Path:
    """The directory of an export's state where none was set."""
    return state_dir / "exports" / backend / export


def ensure_directory(own: Path, chosen: Path) -> None:
    """`chosen` is there for an export's state; where it is another than `own`, that one tells. Raises OSError."""
    durable.ensure_directory(chosen)
    if own.absolute() != chosen:
        durable.ensure_directory(own)
        if _elsewhere(own) != chosen:
            durable.write_whole(own / _ELSEWHERE, str(chosen))


def own_directories(state_dir: Path) -> list[Path]:
    """The directories of every export that was opened under this state directory."""
    found = [path for path in (state_dir.absolute() / "exports").glob("*/*") if path.is_dir()]
    return sorted({*found, *(chosen for path in found if (chosen := _elsewhere(path)) is not None)})


def _elsewhere(own: Path) -> Path | None:
    try:
        return Path((own / _ELSEWHERE).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None


class Node:
    """This node, under the name that Pumice has for it and the one it has itself (which os-brick tells)."""

    def __init__(self, host_name: str) -> None:
        self.names = frozenset({host_name, socket.gethostname()} - {""})

    def has(self, connector: Mapping[str, Any]) -> bool:
        """Whether the consumer says that it is on this node."""
        return connector.get("host") in self.names

    def may_have(self, connector: Mapping[str, Any]) -> bool:
        """Whether it says so, or says of no other place: neither host nor address nor name on a storage network."""
        host = connector.get("host")
        return host in self.names or (not host and not any(connector.get(kind) for kind in _NETWORK_KINDS))
