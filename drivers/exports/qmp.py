"""The machine protocol of QEMU's programs over a Unix socket (docs/interop/qmp-spec in QEMU). Knows no block device.

A program talks to one client at a time, so a conversation is short and is closed when its block ends: who dies in it
leaves no line busy.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final

from drivers.exports.unix_socket import connected
from drivers.vocabulary import BackendUnavailableError, UncertainError

_LONGEST_LINE_BYTES: Final = 64 << 20
_TIMEOUT_SECONDS: Final = 30.0


class RefusedError(Exception):
    """The program refused a command; `str` is its reason."""


class Conversation:
    """Commands, one after the other."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def __call__(self, command: str, arguments: dict[str, Any] | None = None) -> Any:
        """What the command returns. Raises RefusedError; UncertainError when the answer does not come."""
        message = {"execute": command} | ({"arguments": arguments} if arguments else {})
        try:
            async with asyncio.timeout(_TIMEOUT_SECONDS):
                self._writer.write(json.dumps(message).encode() + b"\n")
                await self._writer.drain()
                while True:
                    answer = await self._answer()
                    if "return" in answer:
                        return answer["return"]
                    if "error" in answer:
                        raise RefusedError(f"{command}: {answer['error']['desc']}")
        except (OSError, ValueError, TimeoutError) as error:
            raise UncertainError(
                f"the export's daemon did not answer {command}; the same call must be repeated"
            ) from error

    async def greet(self) -> None:
        """Begin. Raises OSError, ValueError, TimeoutError, RefusedError."""
        async with asyncio.timeout(_TIMEOUT_SECONDS):
            if "QMP" not in await self._answer():
                raise ValueError("no QMP greeting")
        await self("qmp_capabilities")

    async def _answer(self) -> dict[str, Any]:
        line = await self._reader.readline()
        if not line:
            raise ConnectionResetError("the connection was closed")
        answer: dict[str, Any] = json.loads(line)
        return answer


class Qmp:
    """The control socket of one program."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._one_at_a_time = asyncio.Lock()

    @contextlib.asynccontextmanager
    async def conversation(self) -> AsyncIterator[Conversation]:
        """A conversation. Raises BackendUnavailableError when the program is not there or does not greet."""
        async with self._one_at_a_time:
            try:
                reader, writer = await asyncio.open_unix_connection(
                    sock=await connected(self._path, _TIMEOUT_SECONDS), limit=_LONGEST_LINE_BYTES
                )
            except OSError as error:
                raise BackendUnavailableError(f"nobody listens on {self._path}: {error}") from error
            try:
                talk = Conversation(reader, writer)
                try:
                    await talk.greet()
                except (OSError, ValueError, TimeoutError, RefusedError, UncertainError) as error:
                    raise BackendUnavailableError(f"no greeting on {self._path}: {error}") from error
                yield talk
            finally:
                writer.close()
                with contextlib.suppress(OSError):
                    await writer.wait_closed()
