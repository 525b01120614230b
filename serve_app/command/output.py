"""What processes print rather than log: `logs/up.log` and `logs/ray.log`. Each run begins a new one."""

from __future__ import annotations

from pathlib import Path


def begin_anew(path: Path) -> None:
    """Put the file aside as `<name>.1`, whose place it takes, so that what is kept is bounded. Raises OSError."""
    if path.exists():
        path.replace(path.with_name(f"{path.name}.1"))
