"""Directories and small files that survive a power cut. Must not know what they are for."""

from __future__ import annotations

import os
from pathlib import Path

from drivers.reflink.checkpoints import Checkpoint, pass_by


def sync_directory(directory: Path) -> None:
    """Make the names in `directory` durable. Raises OSError."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def ensure_directory(directory: Path) -> None:
    """Make `directory` (0700) and its missing parents, each durable in its own parent. Raises OSError."""
    missing: list[Path] = []
    step = directory
    while not step.is_dir():
        missing.append(step)
        step = step.parent
    for step in reversed(missing):
        step.mkdir(mode=0o700, exist_ok=True)
        sync_directory(step.parent)


def write_whole(path: Path, text: str, *, checkpoint: Checkpoint = pass_by, name: str = "file") -> None:
    """Put `text` in `path` so that a crash leaves the old content or the new, never a part. Raises OSError.

    Passes the checkpoints `<name>-written` and `<name>-renamed`.
    """
    partial = path.with_name(f".partial-{path.name.lstrip('.')}")
    with partial.open("w", encoding="utf-8") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())
    checkpoint(f"{name}-written")
    partial.replace(path)
    # Crash window: the new name may not be on disk yet; whoever repeats the call writes it again.
    checkpoint(f"{name}-renamed")
    sync_directory(path.parent)
