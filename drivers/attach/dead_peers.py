"""A TCP connection of another process whose peer is gone ends after seconds instead of a quarter of an hour.

QEMU's NBD client knows no timeout: while a packet is unanswered, the kernel sends it again for fifteen minutes (tcp(7),
tcp_retries2), and whoever reads waits. The limits are options of each socket, so they are set from outside on those
that the process has (pidfd_getfd(2)), again and again because it makes new ones. Blocking code, which takes
microseconds.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Final

_PIDFD_GETFD: Final = 438  # one number for all architectures
_GONE: Final = (errno.ESRCH, errno.EBADF)
_IDLE_SECONDS: Final = 5
_BETWEEN_SECONDS: Final = 2
_PROBES: Final = 3


def limit(pid: int, silence_seconds: float) -> int:
    """Every TCP connection that the process has now fails when its peer is silent for that long; how many there are. A
    process that is gone has none. Raises OSError when this process may not (it takes root, or CAP_SYS_PTRACE)."""
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return 0
    try:
        return sum(_limit(one, silence_seconds) for one in _sockets(pid, handle))
    finally:
        os.close(handle)


def _limit(one: socket.socket, silence_seconds: float) -> bool:
    if one.family not in (socket.AF_INET, socket.AF_INET6) or one.type != socket.SOCK_STREAM:
        return False
    one.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    one.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, _IDLE_SECONDS)
    one.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, _BETWEEN_SECONDS)
    one.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, _PROBES)
    one.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(silence_seconds * 1000))
    return True


def _sockets(pid: int, handle: int) -> Iterator[socket.socket]:
    """Copies of the process's sockets, each closed here after its use."""
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        for entry in Path(f"/proc/{pid}/fd").iterdir():
            with contextlib.suppress(FileNotFoundError):
                if str(entry.readlink()).startswith("socket:") and (copy := _copy(handle, int(entry.name))) is not None:
                    with socket.socket(fileno=copy) as one:
                        yield one


def _copy(handle: int, number: int) -> int | None:
    library = ctypes.CDLL(None, use_errno=True)
    copy = int(library.syscall(ctypes.c_long(_PIDFD_GETFD), handle, number, 0))
    if copy >= 0:
        return copy
    if ctypes.get_errno() in _GONE:
        return None
    raise OSError(ctypes.get_errno(), f"pidfd_getfd: {os.strerror(ctypes.get_errno())}")
