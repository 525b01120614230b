"""The control socket of tgtd: what `tgtadm` says, said here, so that no password is ever a process's argument.

A request is a `struct tgtadm_req` of tgt's usr/tgtadm.h (120 bytes, native order) and text `key=value,…` with a
closing zero; the answer is an error number, a length, and text. tgtd obeys root of this machine only. Knows no target.
"""

from __future__ import annotations

import asyncio
import contextlib
import struct
from enum import IntEnum
from pathlib import Path
from typing import Final

from drivers.exports.unix_socket import connected
from drivers.vocabulary import BackendUnavailableError, UncertainError

_REQUEST: Final = struct.Struct("=II64sIiQQIIIIII")
_ANSWER: Final = struct.Struct("=II")
_TIMEOUT_SECONDS: Final = 30.0
NO_LUN: Final = (1 << 64) - 1


class Mode(IntEnum):
    """What a request is about."""

    SYSTEM = 0
    TARGET = 1
    DEVICE = 2
    PORTAL = 3
    CONNECTION = 6
    ACCOUNT = 7


class Operation(IntEnum):
    """What is asked."""

    NEW = 0
    DELETE = 1
    SHOW = 2
    BIND = 3
    UNBIND = 4
    UPDATE = 5


class Fault(IntEnum):
    """tgtd's error numbers that matter here."""

    NO_TARGET = 4
    NO_LUN = 5
    NO_SESSION = 6
    NO_CONNECTION = 7
    NO_USER = 15
    ACL_NOEXIST = 13
    TARGET_ACTIVE = 19
    LUN_ACTIVE = 20


class TgtError(Exception):
    """tgtd refused; `number` is its error number."""

    def __init__(self, number: int, request: str) -> None:
        super().__init__(f"tgtd refused {request}: error {number}")
        self.number = number


class TgtControl:
    """The control socket of one tgtd."""

    def __init__(self, path: Path) -> None:
        self._path = path

    async def __call__(
        self,
        mode: Mode,
        operation: Operation,
        text: str = "",
        *,
        target: int = -1,
        session: int = 0,
        connection: int = 0,
        lun: int = NO_LUN,
        force: bool = False,
    ) -> str:
        """What tgtd answers. Raises TgtError; BackendUnavailableError when it is not there; UncertainError when its
        answer does not come."""
        payload = text.encode() + b"\0" if text else b""
        length = _REQUEST.size + len(payload)
        header = _REQUEST.pack(
            mode, operation, b"iscsi", length, target, session, lun, connection, 0, 0, 0, 0, int(force)
        )
        try:
            reader, writer = await asyncio.open_unix_connection(sock=await connected(self._path, _TIMEOUT_SECONDS))
        except OSError as error:
            raise BackendUnavailableError(f"tgtd does not listen on {self._path}: {error}") from error
        try:
            async with asyncio.timeout(_TIMEOUT_SECONDS):
                writer.write(header + payload)
                await writer.drain()
                number, length = _ANSWER.unpack(await reader.readexactly(_ANSWER.size))
                if number:
                    raise TgtError(number, f"{operation.name.lower()} of a {mode.name.lower()}")
                answer = await reader.readexactly(length - _ANSWER.size)
        except (OSError, EOFError, TimeoutError) as error:
            raise UncertainError("tgtd did not answer; the same call must be repeated") from error
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()
        return answer.rstrip(b"\0").decode(errors="replace")
