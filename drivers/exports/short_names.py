"""UUIDs in 22 characters, for places that have no room for 36. Knows nothing else."""

from __future__ import annotations

import base64
import uuid

LENGTH = 22


def shorten(uuid_text: str) -> str:
    """The UUID in 22 characters of the URL-safe base64 alphabet."""
    return base64.urlsafe_b64encode(uuid.UUID(uuid_text).bytes).decode().rstrip("=")


def restore(short: str) -> str:
    """The lower-case UUID of `shorten`. Raises ValueError for anything else."""
    if len(short) != LENGTH:
        raise ValueError(f"{short!r} is no shortened UUID")
    return str(uuid.UUID(bytes=base64.urlsafe_b64decode(short + "==")))
