"""What a directory remembers of the node that `pumice join` has begun in it. A head's directory has no such file."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from cluster.settings_file import write_private


@dataclass(frozen=True)
class JoinedAs:
    """The name under which the volumes of this machine are recorded, and the head (host:port) it joined last."""

    host_name: str
    head: str


def read(state_dir: Path) -> JoinedAs | None:
    """What the directory remembers; None when it is no joined node's."""
    try:
        return JoinedAs(**json.loads(_path(state_dir).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def write(state_dir: Path, node: JoinedAs) -> None:
    """Remember it. Raises OSError."""
    write_private(_path(state_dir), json.dumps(asdict(node), indent=1) + "\n")


def _path(state_dir: Path) -> Path:
    return state_dir / "run" / "node.json"
