"""The exports of one volume host: opened one by one, picked for a consumer, told of volumes that grew.

Knows no Ray and no epochs (`actors.volume_host` lets nobody through whom it must not). Raises `StorageError`s.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import structlog

from actors.choosing import chosen
from cluster.storage_network.seam import NoNetwork, StorageNetwork, Way
from drivers.exports.place import Node
from drivers.protocols import Backend, Ends, Export, Files, Portals
from drivers.reflink.keyed_locks import KeyedLocks
from drivers.vocabulary import (
    UNLIMITED,
    BackendUnavailableError,
    ConnectionInfo,
    ConnectionItem,
    ConnectionSpec,
    Portal,
    StorageError,
    UncertainError,
    UnsupportedError,
)

log = structlog.get_logger()


class Exporting:
    """`host` is `host@backend`. An export that cannot be opened takes nothing from the others. `network` is told of
    every consumer that comes over TCP. `leaving` are exports that the settings do not name any more."""

    def __init__(
        self,
        host: str,
        backend: Backend,
        exports: Sequence[Export],
        network: StorageNetwork | None = None,
        leaving: Sequence[Export] = (),
    ) -> None:
        self._host = host
        self._node = Node(host.partition("@")[0])
        self._network = network or NoNetwork()
        self._backend = backend
        self._exports = (*exports, *leaving) if isinstance(backend, Files) else ()
        self._offered = len(exports) if isinstance(backend, Files) else 0
        # Places in `_exports`, and whether somebody was found whom the export serves.
        self._leaving = dict.fromkeys(range(self._offered, len(self._exports)), False)
        # As for a driver's objects: who asked first goes first, so that a call of an older epoch that was let through
        # never comes after one of a newer epoch.
        self._turns = KeyedLocks()
        self._closed = dict.fromkeys(range(self._offered), "it has not been opened yet")
        # By which export a consumer is let in, whatever its type says by now.
        self._serving: dict[str, int] = {}
        # Consumers that this life let in with their rules. The network forgets the way of one whose daemon died; the
        # consumer is none that is new for that.
        self._let_in: set[str] = set()

    @property
    def protocols(self) -> tuple[str, ...]:
        """The names of the exports by which this backend's volumes can be reached, the preferred one first."""
        return tuple(export.protocol for export in self._exports[: self._offered])

    @property
    def network(self) -> Mapping[str, str | int | float | bool]:
        """What is to be told of the network by which consumers come, as capabilities."""
        return self._network.shown()

    async def open(self) -> None:
        """Open every export that is not open; one that fails is tried again with the next call."""
        for number in [*self._leaving]:
            await self._let_leave(number)
        still_closed = len(self._closed)
        for number, export in enumerate(self._exports):
            if number not in self._closed:
                continue
            try:
                await export.open()
                self._serving |= {item.id: number for item in await export.connections()}
            except Exception as error:  # whatever it is, the next beat tries again
                because = str(error) if isinstance(error, StorageError) else f"a defect: {type(error).__name__}"
                if self._closed[number] != because:
                    log.warning("export.closed", host=self._host, export=export.protocol, error=because)
                self._closed[number] = because
            else:
                del self._closed[number]
                log.info("export.open", host=self._host, export=export.protocol)
        if len(self._closed) < still_closed:
            await self._network.open()

    async def _let_leave(self, number: int) -> None:
        """An export that the settings do not name any more keeps those whom it serves, takes nobody new, and ends with
        the last of them: who has a volume mounted loses nothing by a change of the settings."""
        export, of = self._exports[number], {"host": self._host, "export": self._exports[number].protocol}
        try:
            served = await export.connections()
            if served and not self._leaving[number]:
                await export.open()
                self._serving |= {item.id: number for item in served}
                self._leaving[number] = True
                log.warning("export.leaving", **of, serves=[item.id for item in served])
            if served or number in self._serving.values():  # one that died is made again as it was
                return
            if isinstance(export, Ends):
                await export.end()
        except Exception as error:  # whatever it is, the next beat tries again
            log.warning("export.not_left", **of, error=f"{type(error).__name__}: {error}")
            return
        if self._leaving.pop(number):
            log.info("export.left", **of)

    async def close(self) -> None:
        """Let go of every export; what serves goes on serving."""
        for number, export in enumerate(self._exports):
            self._closed[number] = "it was closed"
            try:
                await export.close()
            except Exception:  # it counts as closed all the same
                log.exception("export.close_failed", host=self._host, export=export.protocol)

    async def ensure_connection(self, pool: str, spec: ConnectionSpec) -> ConnectionInfo:
        """Let the consumer in by the export that does already, else by the one that `spec.protocol` names, else by
        the first that serves its connector and can keep its limits. Raises UnsupportedError (none does),
        BackendUnavailableError (it is not open), and what the export raises."""
        backend = self._backend
        if not isinstance(backend, Files):
            raise UnsupportedError(f"volumes of {self._host} are neither files nor devices: nothing can export them")
        async with self._turns.holding(spec.volume_id):
            number = self._chosen(spec)
            export = self._exports[number]
            info = await export.ensure_connection(spec, await backend.volume_path(pool, spec.volume_id))
            self._serving[spec.id] = number
            await self._tell_network(export, spec)
            self._let_in.add(spec.id)
            return info

    async def _tell_network(self, export: Export, spec: ConnectionSpec) -> None:
        """The way of the consumer has its rules. Where it cannot have them, it is no way: a consumer that is new is
        not let in, and one that was let in before keeps what it had."""
        portal = await _portal(export, spec.id)
        if portal is None:
            await self._network.ensure_way_absent(spec.id)
            return
        consumer = spec.connector.get("ip")
        way = Way(
            spec.id,
            spec.volume_id,
            portal,
            consumer if isinstance(consumer, str) else None,
            self._node.has(spec.connector),
            export.by_network(spec.limits) if isinstance(export, Portals) else UNLIMITED,
        )
        is_new = spec.id not in self._let_in and not await self._network.has_way(spec.id)
        try:
            await self._network.ensure_way(way)
        except Exception:  # also a defect of some rules
            if is_new:
                # Crash window: a port without its rules. Whoever starts next does not know its way, and lets it in
                # again, as far as this point.
                await export.ensure_connection_absent(spec.id, spec.volume_id)
                self._serving.pop(spec.id, None)
            raise

    async def ensure_connection_absent(self, connection_id: str, volume_id: str) -> None:
        """No export lets the consumer in. Each is asked, for which one let it in is not recorded, also one that cannot
        be opened: it may serve what an earlier life made. When one fails, the others are asked all the same, and its
        error is raised then."""
        failed: StorageError | None = None
        async with self._turns.holding(volume_id):
            for export in self._exports:
                try:
                    await export.ensure_connection_absent(connection_id, volume_id)
                except StorageError as error:
                    failed = failed or error
            if failed is not None:
                raise failed
            self._serving.pop(connection_id, None)
            self._let_in.discard(connection_id)
            # Last: a port that is still open keeps its rules.
            await self._network.ensure_way_absent(connection_id)

    async def connections(self) -> list[ConnectionItem]:
        """Every connection that is served, and whose way has its rules. Raises BackendUnavailableError when an export
        is not open: its connections would seem to be gone. The rules of the ways that are remembered are in force all
        the same."""
        since = self._network.stamp()
        found: dict[str, ConnectionItem] = {}
        portals: dict[str, Portal] = {}
        try:
            for number, export in enumerate(self._exports):
                self._refuse_closed(number)
                for item in await export.connections():
                    found[item.id] = item
                    if (portal := await _portal(export, item.id)) is not None:
                        portals[item.id] = portal
        except Exception:  # one export that does not answer takes nothing from the ports of the others
            await self._network.open()
            raise
        unknown = await self._network.reconcile(portals, since)
        return [item for item in found.values() if item.id not in unknown]

    async def resized(self, pool: str, volume_id: str) -> None:
        """Tell every export that the volume grew, also one that cannot be opened. Raises UncertainError when one could
        not be told: the volume has grown all the same, and only the same call again makes it known."""
        backend = self._backend
        if not self._exports or not isinstance(backend, Files):
            return
        async with self._turns.holding(volume_id):
            path = await backend.volume_path(pool, volume_id)
            for export in self._exports:
                try:
                    await export.resized(volume_id, path)
                except StorageError as error:
                    raise UncertainError(
                        f"volume {volume_id} grew, but {export.protocol} could not be told: {error}"
                    ) from error

    def _chosen(self, spec: ConnectionSpec) -> int:
        serving = self._serving.get(spec.id)
        offered = self._exports if serving is not None else self._exports[: self._offered]
        number = chosen(offered, spec, serving, self._host)
        self._refuse_closed(number)
        return number

    def _refuse_closed(self, number: int) -> None:
        if number in self._closed:
            export = self._exports[number].protocol
            raise BackendUnavailableError(f"export {export} of {self._host} is not open: {self._closed[number]}")


async def _portal(export: Export, connection_id: str) -> Portal | None:
    return await export.portal(connection_id) if isinstance(export, Portals) else None
