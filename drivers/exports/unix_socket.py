"""Connecting to a Unix socket whose listener has a short queue. Knows no protocol.

Linux refuses a connection that does not wait with EAGAIN when the queue is full, which asyncio takes for "under way":
it then reads from a socket that was never connected. QEMU's monitors queue one.
"""

from __future__ import annotations

import asyncio
import socket
import time
from pathlib import Path
from typing import Final

_BETWEEN_SECONDS: Final = 0.005


async def connected(path: Path, timeout_seconds: float) -> socket.socket:
    """A socket connected to `path`, for asyncio. Raises OSError, of which TimeoutError is one."""
    deadline = time.monotonic() + timeout_seconds
    while True:
        if (found := _try(path, deadline)) is not None:
            return found
        await asyncio.sleep(_BETWEEN_SECONDS)


def _try(path: Path, deadline: float) -> socket.socket | None:
    trial = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    trial.setblocking(False)
    try:
        trial.connect(str(path))
    except BlockingIOError:
        trial.close()
        if time.monotonic() > deadline:
            raise TimeoutError(f"{path} takes no connection") from None
        return None
    except BaseException:
        trial.close()
        raise
    return trial
