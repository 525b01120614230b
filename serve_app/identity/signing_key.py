"""The key that embedded tokens are signed with: `<state_dir>/secrets/token.key`, 64 random bytes, mode 0600.

Whoever comes first makes it, whole or not at all: a complete file is linked to its name, which fails if the name is
taken. Control nodes with state directories of their own must be given the same file.
"""

from __future__ import annotations

import os
import secrets
from pathlib import Path

_BYTES = 64


class SigningKeyError(Exception):
    """The signing key cannot be used."""


def ensure_signing_key(state_dir: Path) -> bytes:
    """The key, made if there is none yet. Raises SigningKeyError for a file that is too short to be one."""
    folder = state_dir / "secrets"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = folder / "token.key"
    if not path.exists():
        _make(folder, path)
    key = path.read_bytes()
    if len(key) < 32:
        raise SigningKeyError(f"{path} is damaged: remove it, and all tokens end; a new key is made at the next start")
    return key


def _make(folder: Path, path: Path) -> None:
    draft = folder / f".token.key.{os.getpid()}.{secrets.token_hex(8)}"
    descriptor = os.open(draft, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(secrets.token_bytes(_BYTES))
            file.flush()
            os.fsync(file.fileno())
        # A crash before this line leaves a draft that nobody reads; after it the key is there for good.
        try:
            os.link(draft, path)
        except FileExistsError:
            return
        directory = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
    finally:
        draft.unlink(missing_ok=True)
