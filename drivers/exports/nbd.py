"""The export `nbd`: Network Block Device by qemu-storage-daemon, with limits that change while in use.

One daemon holds the files of all volumes and listens on a Unix socket that only root of this node can open. Consumers
of this node come there; each from elsewhere through a gateway of its own (see nbd_gateway.py). The daemon outlives the
volume actor and is found again; when it dies, the next call starts it, and whoever calls makes the connections again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Mapping
from pathlib import Path
from typing import Any, Final, TypeVar

from drivers.export_registry import ExportKind
from drivers.exports import nbd_nodes, ports
from drivers.exports.daemon import Daemon, pid_file
from drivers.exports.nbd_gateway import PACKAGE, PROGRAM, Gateways, escaped
from drivers.exports.nbd_nodes import Served
from drivers.exports.options import NbdOptions, Transport
from drivers.exports.place import Node, ensure_directory, own_directory
from drivers.exports.qmp import Qmp, RefusedError
from drivers.exports.uninterrupted import uninterrupted
from drivers.reflink.keyed_locks import KeyedLocks
from drivers.vocabulary import (
    UNLIMITED,
    AccessMode,
    BackendUnavailableError,
    ConnectionInfo,
    ConnectionItem,
    ConnectionSpec,
    Limits,
    Portal,
    UncertainError,
    UnsupportedError,
    checked_id,
)

T = TypeVar("T")

_NAME: Final = "nbd"
_SOCKET: Final = "nbd.sock"
_CONTROL: Final = "qmp.sock"
SOCKETS: Final = (_SOCKET, _CONTROL)


class NbdExport:
    """Implements `drivers.protocols.Export`. `directory` is its own; `node` is where it runs."""

    protocol: Final = "nbd"

    def __init__(self, options: NbdOptions, directory: Path, node: Node) -> None:
        self._options = options
        self._own_directory = directory
        self._directory = (options.directory or directory).absolute()
        self._node = node
        self._socket = self._directory / _SOCKET
        control = self._directory / _CONTROL
        command = [
            PROGRAM,
            "--chardev",
            f"socket,id=control,path={escaped(control)},server=on,wait=off",
            "--monitor",
            "chardev=control",
            "--nbd-server",
            f"addr.type=unix,addr.path={escaped(self._socket)}",
            "--pidfile",
            str(pid_file(self._directory, _NAME)),
        ]
        self._daemon = Daemon(_NAME, self._directory, command, package=PACKAGE, control=control)
        self._qmp = Qmp(control)
        self._gateways = Gateways(options, self._directory / "tcp", self._socket)
        self._locks = KeyedLocks()
        self._choosing_ports = asyncio.Lock()

    async def open(self) -> None:
        """Find the daemon or start it. Raises BackendUnavailableError."""
        try:
            await asyncio.to_thread(ensure_directory, self._own_directory, self._directory)
        except OSError as error:
            raise BackendUnavailableError(f"cannot make {self._directory}: {error}") from error
        await asyncio.to_thread(self._daemon.ensure)

    async def close(self) -> None:
        """Nothing is held between calls; the daemons go on serving."""

    async def end(self) -> None:
        """See `Ends`."""
        await asyncio.to_thread(self._daemon.end)

    def serves(self, connector: Mapping[str, Any]) -> bool:
        """Consumers of this node, and of others where they can reach the address."""
        here = self._node.has(connector)
        if self._options.transport is Transport.UNIX:
            return here
        return here or self._options.is_reachable

    def cannot_keep(self, limits: Limits) -> str:  # noqa: ARG002 -- a throttle group knows all of them
        """See `Export`."""
        return ""

    async def ensure_connection(self, spec: ConnectionSpec, path: Path) -> ConnectionInfo:
        """See `Export`. Limits of a connection that is there change at once."""
        checked_id(spec.id)
        checked_id(spec.volume_id)
        if not self.serves(spec.connector):
            raise UnsupportedError(f"connection {spec.id}: nbd does not reach its consumer; set address or transport")
        return await self._alone(spec.volume_id, self._ensure(spec, await asyncio.to_thread(path.absolute)))

    async def _ensure(self, spec: ConnectionSpec, path: Path) -> ConnectionInfo:
        await self.open()
        wanted = Served(ConnectionItem(spec.id, spec.volume_id), spec.mode)
        async with self._qmp.conversation() as talk:
            try:
                await nbd_nodes.ensure(talk, wanted, path, spec.limits)
            except RefusedError as error:
                raise UncertainError(f"connection {spec.id} is half made; the same call must be repeated") from error
        if self._comes_by_socket(spec):
            await asyncio.to_thread(self._gateways.remove, spec.id)
            return self._info(spec, {"transport": "unix", "socket": str(self._socket)})
        async with self._choosing_ports:
            portal = await asyncio.to_thread(self._gateways.ensure, spec)
        address, port = self._options.advertised_address or portal.address, portal.port
        return self._info(
            spec,
            {
                "transport": "tcp",
                "host": address,
                "port": port,
                "tls": "psk",
                "psk_identity": spec.id,
                "psk_key": spec.secret,
                "uri": f"nbds://{ports.joined(address, port)}/{spec.id}",
            },
        )

    async def ensure_connection_absent(self, connection_id: str, volume_id: str) -> None:
        """See `Export`."""
        checked_id(connection_id)
        checked_id(volume_id)
        await self._alone(volume_id, self._remove(connection_id, volume_id))

    async def _remove(self, connection_id: str, volume_id: str) -> None:
        await asyncio.to_thread(self._gateways.remove, connection_id)
        if await asyncio.to_thread(self._daemon.pid) is None:
            return
        async with self._qmp.conversation() as talk:
            try:
                await nbd_nodes.remove(talk, connection_id, volume_id)
            except RefusedError as error:
                raise UncertainError(
                    f"connection {connection_id} is not gone yet; the call must be repeated"
                ) from error

    async def connections(self) -> list[ConnectionItem]:
        """See `Export`. A connection whose gateway died is not among them."""
        if await asyncio.to_thread(self._daemon.pid) is None:
            return []
        async with self._qmp.conversation() as talk:
            exports = await nbd_nodes.served(talk)
        dead = await asyncio.to_thread(self._dead_gateways)
        return [export.item for export in exports if export.item.id not in dead]

    async def portal(self, connection_id: str) -> Portal | None:
        """See `Portals`."""
        return await asyncio.to_thread(self._gateways.portal, checked_id(connection_id))

    def by_network(self, limits: Limits) -> Limits:  # noqa: ARG002
        """See `Portals`: throttle groups keep them all."""
        return UNLIMITED

    def _dead_gateways(self) -> set[str]:
        return {entry for entry in self._gateways.ids() if not self._gateways.is_serving(entry)}

    async def resized(self, volume_id: str, path: Path) -> None:
        """See `Export`. QEMU fixes an export's size when it is made and does not grow a file under a writer, so the
        volume's exports are made again: sessions end, and consumers that connect again see the new size."""
        checked_id(volume_id)
        await self._alone(volume_id, self._resize(volume_id, await asyncio.to_thread(path.absolute)))

    async def _resize(self, volume_id: str, path: Path) -> None:
        if await asyncio.to_thread(self._daemon.pid) is None:
            return
        actual = (await asyncio.to_thread(path.stat)).st_size
        async with self._qmp.conversation() as talk:
            exports = [export for export in await nbd_nodes.served(talk) if export.item.volume_id == volume_id]
            if not exports or await nbd_nodes.size_bytes(talk, volume_id) == actual:
                return
            try:
                limits = {export.item.id: await nbd_nodes.limits_of(talk, export.item.id) for export in exports}
                # Crash window: exports that are gone; whoever looks at `connections` makes them again.
                for export in exports:
                    await nbd_nodes.remove(talk, export.item.id)
                for export in exports:
                    await nbd_nodes.ensure(talk, export, path, limits[export.item.id])
            except RefusedError as error:
                raise UncertainError(f"volume {volume_id} is half grown; the same call must be repeated") from error
        for connection_id in self._gateways.ids():
            if connection_id in limits:
                await asyncio.to_thread(self._gateways.restart, connection_id)

    async def _alone(self, volume_id: str, work: Awaitable[T]) -> T:
        return await uninterrupted(self._locks.holding(volume_id), work)

    def _comes_by_socket(self, spec: ConnectionSpec) -> bool:
        return self._options.transport is not Transport.TCP and self._node.has(spec.connector)

    def _info(self, spec: ConnectionSpec, way: dict[str, Any]) -> ConnectionInfo:
        data = {
            **way,
            "export": spec.id,
            "volume_id": spec.volume_id,
            "access_mode": AccessMode(spec.mode).value,
            "discard": True,
        }
        if way["transport"] == "unix":
            data["uri"] = f"nbd+unix:///{spec.id}?socket={way['socket']}"
        return ConnectionInfo("nbd", data)


EXPORT: Final = ExportKind(
    NbdOptions,
    lambda options, state_dir, backend, host: NbdExport(options, own_directory(state_dir, backend, "nbd"), Node(host)),
)
