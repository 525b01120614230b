"""Portals of their own for connections with limits: the network tells a connection by the port that its answers leave.

tgtd serves every target at each of its portals, so a consumer that comes to another portal than the one it was told is
not slowed down there. A file `portals/<connection>` names the port, before tgtd has it and until tgtd has it no more.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Final

from drivers.exports import ports
from drivers.exports.options import IscsiOptions
from drivers.exports.tgt_control import Mode, Operation, TgtControl, TgtError
from drivers.reflink import durable
from drivers.vocabulary import BackendUnavailableError, Portal

_LINE: Final = "Portal: "


class OwnPortals:
    """Those of one tgtd; its export calls one method at a time. Raises TgtError and BackendUnavailableError."""

    def __init__(self, options: IscsiOptions, directory: Path, tgt: TgtControl) -> None:
        self._options = options
        self._directory = directory
        self._tgt = tgt

    def port(self, connection_id: str) -> int | None:
        """The port that the connection has for itself, or None. Blocking."""
        try:
            return int((self._directory / connection_id).read_text(encoding="ascii"))
        except FileNotFoundError:
            return None

    async def ensure(self, connection_id: str, address: str) -> Portal:
        """A portal of the connection's own on `address`; the one it has, if it has one."""
        there = await self._there()
        port = await asyncio.to_thread(self.port, connection_id)
        if port is not None:
            portal = Portal(address, port)
            if _text(portal) not in there:
                await self._tgt(Mode.PORTAL, Operation.NEW, f"portal={_text(portal)}")
            return portal
        error: TgtError | None = None
        for candidate in await asyncio.to_thread(self._free, address):
            await asyncio.to_thread(self._note, connection_id, candidate)
            # Crash window: a port without its portal, which the next call makes.
            try:
                await self._tgt(Mode.PORTAL, Operation.NEW, f"portal={_text(Portal(address, candidate))}")
            except TgtError as refused:  # somebody else took it first
                error = refused
            else:
                return Portal(address, candidate)
        await asyncio.to_thread(self.forget, connection_id)
        raise BackendUnavailableError(
            f"no port of {self._options.port_first}..{self._options.port_last} on {address} is free for a connection "
            f"with limits; widen the range{f' ({error})' if error else ''}"
        )

    async def remove(self, connection_id: str, address: str) -> None:
        """No such portal."""
        port = await asyncio.to_thread(self.port, connection_id)
        if port is None:
            return
        if _text(Portal(address, port)) in await self._there():
            await self._tgt(Mode.PORTAL, Operation.DELETE, f"portal={_text(Portal(address, port))}")
        await asyncio.to_thread(self.forget, connection_id)

    def forget(self, connection_id: str) -> None:
        """Its portal is gone with tgtd. Blocking."""
        (self._directory / connection_id).unlink(missing_ok=True)

    async def _there(self) -> set[str]:
        shown = await self._tgt(Mode.PORTAL, Operation.SHOW)
        return {line.removeprefix(_LINE).rpartition(",")[0] for line in shown.splitlines() if line.startswith(_LINE)}

    def _free(self, address: str) -> list[int]:
        taken = {port for entry in self._directory.glob("*-*") if (port := self.port(entry.name)) is not None}
        return list(ports.free(ports.Range(address, self._options.port_first, self._options.port_last), taken))

    def _note(self, connection_id: str, port: int) -> None:
        try:
            durable.ensure_directory(self._directory)
            durable.write_whole(self._directory / connection_id, str(port))
        except OSError as error:
            raise BackendUnavailableError(f"cannot write in {self._directory}: {error}") from error


def _text(portal: Portal) -> str:
    return ports.joined(portal.address, portal.port)
