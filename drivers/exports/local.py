"""The export `local`: the volume as a block device (or file) of its own node. No daemon and no copy.

A loop device carries in its tag whose it is (this export's directory, connection, volume), so whatever a crash left is
found again from the kernel alone. With `device = path` the consumer is told the file, and a small record says so.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, TypeVar

from drivers.export_registry import ExportKind
from drivers.exports import loop_device
from drivers.exports.loop_device import LoopDevice
from drivers.exports.loop_limits import LoopLimits
from drivers.exports.options import Device, LocalOptions
from drivers.exports.place import Node, ensure_directory, own_directory
from drivers.exports.short_names import LENGTH, restore, shorten
from drivers.exports.uninterrupted import uninterrupted
from drivers.reflink import durable
from drivers.reflink.keyed_locks import KeyedLocks
from drivers.vocabulary import (
    UNLIMITED,
    AccessMode,
    BackendUnavailableError,
    ConnectionInfo,
    ConnectionItem,
    ConnectionSpec,
    InUseError,
    Limits,
    SourceMissingError,
    StorageError,
    UnsupportedError,
    checked_id,
)

T = TypeVar("T")
_LOG: Final = logging.getLogger(__name__)

_CLOSING_SECONDS: Final = 2.0
_BETWEEN_SECONDS: Final = 0.02


class LocalExport:
    """Implements `drivers.protocols.Export`. `directory` is its own; `node` is where it runs."""

    protocol: Final = "local"

    def __init__(self, options: LocalOptions, directory: Path, node: Node) -> None:
        self._device = options.device
        self._own_directory = directory
        self._directory = (options.directory or directory).absolute()
        self._node = node
        self._scope = scope_of(self._directory)
        self._limits = LoopLimits(self._directory, options.cgroups)
        self._trouble = ""
        self._locks = KeyedLocks()

    async def open(self) -> None:
        """Make sure that loop devices can be had. Raises BackendUnavailableError."""
        await asyncio.to_thread(self._open)

    def _open(self) -> None:
        with _failures("preparing the export local"):
            ensure_directory(self._own_directory, self._directory)
        if self._device is Device.LOOP and not os.access("/dev/loop-control", os.R_OK | os.W_OK):
            raise BackendUnavailableError(
                "loop devices cannot be had here (/dev/loop-control); run as root, modprobe loop, or set device = path"
            )
        self._repair_limits()

    async def close(self) -> None:
        """Nothing is held."""

    def serves(self, connector: Mapping[str, Any]) -> bool:
        """Consumers of this node."""
        return self._node.may_have(connector)

    def cannot_keep(self, limits: Limits) -> str:
        """See `Export`. Reads and writes of a loop device, each for itself, where the node has cgroup io limits."""
        if self._device is Device.PATH and limits != UNLIMITED:
            return "a plain path cannot be limited; set device = loop"
        return self._limits.cannot_keep(limits)

    async def ensure_connection(self, spec: ConnectionSpec, path: Path) -> ConnectionInfo:
        """See `Export`. Limits of a connection that is there change at once."""
        checked_id(spec.id)
        checked_id(spec.volume_id)
        if because := self.cannot_keep(spec.limits):
            raise UnsupportedError(f"connection {spec.id}: its limits cannot be kept by local: {because}")
        if not self._node.may_have(spec.connector):
            raise UnsupportedError(f"connection {spec.id}: its consumer is not on the node of volume {spec.volume_id}")
        ensure = self._ensure_loop if self._device is Device.LOOP else self._ensure_path
        device_path = await self._alone(spec.id, lambda: ensure(spec, path))
        data = {"device_path": str(device_path), "volume_id": spec.volume_id, "access_mode": spec.mode.value}
        return ConnectionInfo("local", data)

    async def ensure_connection_absent(self, connection_id: str, volume_id: str) -> None:
        """See `Export`. Raises BackendUnavailableError while the consumer has the device open (mounted): nobody can
        take it away; it frees itself when it is closed, and a repeat then succeeds."""
        checked_id(connection_id)
        await self._alone(connection_id, lambda: self._remove(connection_id, checked_id(volume_id)))

    async def connections(self) -> list[ConnectionItem]:
        """See `Export`. Limits are brought to cgroups that are new."""
        return await asyncio.to_thread(self._list)

    async def resized(self, volume_id: str, path: Path) -> None:
        """See `Export`: devices have the new size at once."""
        checked_id(volume_id)
        await asyncio.to_thread(self._resize, volume_id, path)

    async def _alone(self, connection_id: str, work: Callable[[], T]) -> T:
        return await uninterrupted(self._locks.holding(connection_id), asyncio.to_thread(work))

    def _ensure_loop(self, spec: ConnectionSpec, path: Path) -> Path:
        wanted = str(path.resolve())
        read_only = spec.mode is AccessMode.READ_ONLY
        with _failures(f"making the device of connection {spec.id}"):
            for found, item in self._own():
                if item.id != spec.id:
                    continue
                if found.backing == wanted and found.read_only == read_only:
                    if found.leaving:
                        loop_device.keep(found.path)
                    with loop_device.alone():
                        self._limits.ensure(found, spec.limits)
                    return found.path
                # Of another mode, or of a file that was since replaced.
                if not self._free(found):
                    raise InUseError(f"connection {spec.id} is in use as it was before; close its device first")
            try:
                return self._bind(spec, path.resolve(), read_only=read_only)
            except FileNotFoundError as error:
                if path.exists():
                    raise
                raise SourceMissingError(f"volume {spec.volume_id} is not where its backend said") from error

    def _bind(self, spec: ConnectionSpec, file: Path, *, read_only: bool) -> Path:
        with loop_device.alone():
            device = loop_device.bind(file, self._tag(spec.id, spec.volume_id), read_only=read_only)
            # Crash window: a device without limits, which nobody was told of, and which a repeat limits.
            try:
                self._limits.ensure(device, spec.limits)
            except (OSError, StorageError):
                loop_device.unbind(device, 0)
                raise
        return device.path

    def _free(self, device: LoopDevice) -> bool:
        deadline = time.monotonic() + _CLOSING_SECONDS
        while True:
            with loop_device.alone():
                if loop_device.unbind(device, 0):
                    self._limits.release(device)
                    return True
            if time.monotonic() > deadline:
                return False
            time.sleep(_BETWEEN_SECONDS)

    def _repair_limits(self) -> None:
        """What cannot be repaired is logged, once for the same reason: consumers go on being served."""
        try:
            self._limits.repair()
        except (OSError, StorageError) as error:
            if str(error) != self._trouble:
                _LOG.warning("limits of local devices are not kept: %s", error)
            self._trouble = str(error)
        else:
            self._trouble = ""

    def _ensure_path(self, spec: ConnectionSpec, path: Path) -> Path:
        if spec.mode is AccessMode.READ_ONLY:
            raise UnsupportedError(f"connection {spec.id}: a plain path cannot be given read-only; set device = loop")
        with _failures(f"recording connection {spec.id}"):
            durable.write_whole(self._record(spec.id), json.dumps({"volume_id": spec.volume_id}))
        return path

    def _remove(self, connection_id: str, volume_id: str) -> None:
        with _failures(f"removing connection {connection_id}"):
            for found, item in self._own():
                if item == ConnectionItem(connection_id, volume_id) and not self._free(found):
                    raise BackendUnavailableError(
                        f"{found.path} of connection {connection_id} is still open; unmount or close it"
                    )
            record = self._record(connection_id)
            if record.exists():
                record.unlink()
                durable.sync_directory(self._directory)

    def _list(self) -> list[ConnectionItem]:
        self._repair_limits()
        with _failures("listing local connections"):
            items = {item.id: item for _, item in self._own()}
            for record in self._directory.glob("connection-*.json"):
                connection_id = record.stem.removeprefix("connection-")
                items[connection_id] = ConnectionItem(connection_id, json.loads(record.read_text())["volume_id"])
        return list(items.values())

    def _resize(self, volume_id: str, path: Path) -> None:
        with _failures(f"growing the devices of volume {volume_id}"):
            for found, item in self._own():
                if item.volume_id == volume_id and found.backing == str(path.resolve()):
                    loop_device.refresh_size(found.path)

    def _own(self) -> Iterator[tuple[LoopDevice, ConnectionItem]]:
        for device in loop_device.bound():
            scope, _, names = device.tag.partition(".")
            if scope == self._scope and len(names) == 2 * LENGTH:
                yield device, ConnectionItem(restore(names[:LENGTH]), restore(names[LENGTH:]))

    def _tag(self, connection_id: str, volume_id: str) -> str:
        return f"{self._scope}.{shorten(connection_id)}{shorten(volume_id)}"

    def _record(self, connection_id: str) -> Path:
        return self._directory / f"connection-{connection_id}.json"


def scope_of(directory: Path) -> str:
    """What begins the tags of the devices of the export that has its state in `directory`. 14 characters."""
    return f"pm{hashlib.sha256(os.fsencode(directory)).hexdigest()[:12]}"


@contextmanager
def _failures(action: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise BackendUnavailableError(f"{action}: {error}") from error


EXPORT: Final = ExportKind(
    LocalOptions,
    lambda options, state_dir, backend, host: LocalExport(
        options, own_directory(state_dir, backend, "local"), Node(host)
    ),
)
