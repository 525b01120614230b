"""The marker that makes a directory a pool, and the memory of which pool it was. Knows no volumes.

`.pumice-pool.json` in the directory says the format, the pool's UUID and whether files could share extents when the
pool was begun (believed only while the file system is too full to try). A pool whose file system is not mounted looks
like an empty directory; so that no second pool is begun there, an identity file outside the pool remembers the UUID.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from drivers.reflink import durable
from drivers.reflink.checkpoints import Checkpoint
from drivers.reflink.hold import LOCK_NAME
from drivers.vocabulary import BackendUnavailableError

MARKER_NAME: Final = ".pumice-pool.json"
FORMAT: Final = 1
# What a directory may hold and still count as empty: traces of a first open that died, and what mkfs makes.
_NOTHING: Final = frozenset({LOCK_NAME, f".partial-{MARKER_NAME.lstrip('.')}", "lost+found"})


@dataclass(frozen=True, slots=True)
class Marker:
    """A pool's marker; `device` and `inode` tell later whether the same directory is still mounted there."""

    pool_id: str
    shares_extents: bool
    device: int
    inode: int


def read(directory: Path) -> Marker | None:
    """The marker of `directory`, or None. Raises BackendUnavailableError when it cannot be understood, OSError."""
    path = directory / MARKER_NAME
    try:
        status = path.stat()
        content = json.loads(path.read_text(encoding="utf-8"))
        version, pool_id, shares = content["format"], str(content["pool_id"]), bool(content["shares_extents"])
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError) as error:
        raise BackendUnavailableError(f"{path} is not a pool marker; restore it from a backup") from error
    if version != FORMAT:
        raise BackendUnavailableError(f"{path} has format {version}, this Pumice knows {FORMAT}; use a newer Pumice")
    return Marker(pool_id, shares, status.st_dev, status.st_ino)


def refuse_strange(directory: Path, identity_file: Path | None) -> None:
    """Raise BackendUnavailableError unless `directory` is the remembered pool, or any pool or empty when none is
    remembered. Changes nothing. Raises OSError."""
    expected = _remembered(identity_file)
    found = read(directory) if directory.is_dir() else None
    if expected is not None and (found is None or found.pool_id != expected):
        state = "is gone or not mounted" if found is None else f"holds another pool ({found.pool_id})"
        raise BackendUnavailableError(
            f"pool {expected} {state} at {directory}; mount it, or delete {identity_file} to begin a new pool"
        )
    if found is None and directory.is_dir():
        strange = sorted({entry.name for entry in directory.iterdir()} - _NOTHING)
        if strange:
            raise BackendUnavailableError(
                f"{directory} is no pool and not empty (it holds {strange[0]!r}); choose an empty directory"
            )


def ensure(
    directory: Path,
    identity_file: Path | None,
    *,
    new_pool_id: Callable[[], str],
    shares_extents: Callable[[], bool],
    checkpoint: Checkpoint,
) -> Marker:
    """The pool's marker, made when there is none, and remembered. Call while holding the pool and after
    `refuse_strange`. Raises OSError."""
    found = read(directory)
    if found is None:
        content = {"format": FORMAT, "pool_id": new_pool_id(), "shares_extents": shares_extents()}
        text = json.dumps(content, indent=1) + "\n"
        durable.write_whole(directory / MARKER_NAME, text, checkpoint=checkpoint, name="marker")
        found = read(directory)
        if found is None:
            raise BackendUnavailableError(f"the marker just made in {directory} is gone; look at its file system")
    # Crash window: a marked pool that nobody remembers; the next open remembers it.
    checkpoint("marked")
    if identity_file is not None and _remembered(identity_file) is None:
        durable.ensure_directory(identity_file.parent)
        durable.write_whole(identity_file, json.dumps({"pool_id": found.pool_id}) + "\n")
    checkpoint("remembered")
    return found


def _remembered(identity_file: Path | None) -> str | None:
    if identity_file is None:
        return None
    try:
        return str(json.loads(identity_file.read_text(encoding="utf-8"))["pool_id"])
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError) as error:
        raise BackendUnavailableError(
            f"{identity_file} cannot be read as a pool's identity; delete it if {MARKER_NAME} in the pool is right"
        ) from error
