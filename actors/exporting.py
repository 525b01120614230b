"""The exports of one volume host: opened one by one, picked for a consumer, told of volumes that grew.

Knows no Ray and no epochs (`actors.volume_host` lets nobody through whom it must not). Raises `StorageError`s.
"""

from __future__ import annotations

from collections.abc import Sequence

import structlog

from drivers.protocols import Backend, Export, Files
from drivers.reflink.keyed_locks import KeyedLocks
from drivers.vocabulary import (
    BackendUnavailableError,
    ConnectionInfo,
    ConnectionItem,
    ConnectionSpec,
    StorageError,
    UncertainError,
    UnsupportedError,
)

log = structlog.get_logger()


class Exporting:
    """`host` is `host@backend`, for sentences. An export that cannot be opened takes nothing from the others."""

    def __init__(self, host: str, backend: Backend, exports: Sequence[Export]) -> None:
        self._host = host
        self._backend = backend
        self._exports = tuple(exports) if isinstance(backend, Files) else ()
        # As for a driver's objects: who asked first goes first, so that a call of an older epoch that was let through
        # never comes after one of a newer epoch.
        self._turns = KeyedLocks()
        self._closed = dict.fromkeys(range(len(self._exports)), "it has not been opened yet")

    @property
    def protocols(self) -> tuple[str, ...]:
        """The names of the exports by which this backend's volumes can be reached, the preferred one first."""
        return tuple(export.protocol for export in self._exports)

    async def open(self) -> None:
        """Open every export that is not open; one that fails is tried again with the next call."""
        for number, export in enumerate(self._exports):
            if number not in self._closed:
                continue
            try:
                await export.open()
            except Exception as error:  # whatever it is, the next beat tries again
                because = str(error) if isinstance(error, StorageError) else f"a defect: {type(error).__name__}"
                if self._closed[number] != because:
                    log.warning("export.closed", host=self._host, export=export.protocol, error=because)
                self._closed[number] = because
            else:
                del self._closed[number]
                log.info("export.open", host=self._host, export=export.protocol)

    async def close(self) -> None:
        """Let go of every export; what serves goes on serving."""
        for number, export in enumerate(self._exports):
            self._closed[number] = "it was closed"
            try:
                await export.close()
            except Exception:  # it counts as closed all the same
                log.exception("export.close_failed", host=self._host, export=export.protocol)

    async def ensure_connection(self, pool: str, spec: ConnectionSpec) -> ConnectionInfo:
        """Let the consumer in by the export that `spec.protocol` names, else by the first that serves its connector.
        Raises UnsupportedError (none does), BackendUnavailableError (it is not open), and what the export raises."""
        backend = self._backend
        if not isinstance(backend, Files):
            raise UnsupportedError(f"volumes of {self._host} are neither files nor devices: nothing can export them")
        async with self._turns.holding(spec.volume_id):
            export = self._chosen(spec)
            return await export.ensure_connection(spec, await backend.volume_path(pool, spec.volume_id))

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

    async def connections(self) -> list[ConnectionItem]:
        """Every connection that is served. Raises BackendUnavailableError when an export is not open: its connections
        would seem to be gone."""
        found: dict[str, ConnectionItem] = {}
        for number, export in enumerate(self._exports):
            self._refuse_closed(number)
            found |= {item.id: item for item in await export.connections()}
        return list(found.values())

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

    def _chosen(self, spec: ConnectionSpec) -> Export:
        for number, export in enumerate(self._exports):
            named = spec.protocol is not None and export.protocol.lower() == spec.protocol.lower()
            if named or (spec.protocol is None and export.serves(spec.connector)):
                self._refuse_closed(number)
                return export
        there = ", ".join(export.protocol for export in self._exports) or "none"
        wanted = f"is {spec.protocol}" if spec.protocol is not None else "serves this connector"
        raise UnsupportedError(f"no export of {self._host} {wanted}; its exports: {there}")

    def _refuse_closed(self, number: int) -> None:
        if number in self._closed:
            export = self._exports[number].protocol
            raise BackendUnavailableError(f"export {export} of {self._host} is not open: {self._closed[number]}")
