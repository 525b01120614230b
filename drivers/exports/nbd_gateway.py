"""The way of one consumer from another node to its NBD export: a small daemon of its own, TLS-PSK on a TCP port.

Why one each: QEMU's NBD server lets whoever it knows by any key list and open every export it has, so a server with
several consumers' keys would let each of them into the others' volumes. This one has one key and one export, which it
reads from the main daemon's Unix socket; when that is started again, it waits for its export to come back.

Its directory is its record: `address`, `port`, `mode`, `keys.psk` (0600), `dh-params.pem`, lock, pid and log. One that
runs stays where its consumer knows it, also when the options say another address by now. Blocking code.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Final

from drivers.exports import dh_group, ports
from drivers.exports.daemon import LISTENER, Daemon, pid_file
from drivers.exports.options import NbdOptions
from drivers.reflink import durable
from drivers.vocabulary import AccessMode, BackendUnavailableError, ConnectionSpec, Portal

PROGRAM: Final = "qemu-storage-daemon"
PACKAGE: Final = "qemu-system-common"
_WAIT_FOR_MAIN_SECONDS: Final = 300
_NAME: Final = "gateway"


class Gateways:
    """The gateways of one export, in `directory`; they reach the volumes at `upstream`."""

    def __init__(self, options: NbdOptions, directory: Path, upstream: Path) -> None:
        self._options = options
        self._directory = directory
        self._upstream = upstream
        self._nowhere = Portal(options.address, 0)  # for what does not start it

    def ensure(self, spec: ConnectionSpec) -> Portal:
        """The consumer of `spec` is let in; where. Raises BackendUnavailableError."""
        directory = self._directory / spec.id
        try:
            durable.ensure_directory(directory)
            self._ensure_key(directory, spec)
            durable.write_whole(directory / "dh-params.pem", dh_group.PEM)
            mode = directory / "mode"
            if _read(mode) not in ("", spec.mode.value):
                self._daemon(spec.id, self._nowhere, spec.mode).end()
            durable.write_whole(mode, spec.mode.value)
            portal = self.portal(spec.id)
            if portal is not None and (portal.address == self._options.address or self.is_serving(spec.id)):
                self._daemon(spec.id, portal, spec.mode).ensure()
                return portal
            # One that runs without a record (its starter died) is on a port that nobody was told.
            self._daemon(spec.id, self._nowhere, spec.mode).end()
            (directory / "port").unlink(missing_ok=True)
            durable.write_whole(directory / "address", self._options.address)
            taken = {portal.port for entry in self.ids() if (portal := self.portal(entry)) is not None}
            port = ports.first_that_serves(
                ports.Range(self._options.address, self._options.port_first, self._options.port_last),
                taken,
                lambda port: self._daemon(spec.id, Portal(self._options.address, port), spec.mode).ensure(),
            )
            durable.write_whole(directory / "port", str(port))
        except OSError as error:
            raise BackendUnavailableError(f"cannot write the state of connection {spec.id}: {error}") from error
        return Portal(self._options.address, port)

    def restart(self, connection_id: str) -> None:
        """End it, so that the next start sees the volume's new size, and start it again where it was."""
        portal, mode = self.portal(connection_id), _read(self._directory / connection_id / "mode")
        if portal is not None and mode:
            daemon = self._daemon(connection_id, portal, AccessMode(mode))
            daemon.end()
            daemon.ensure()

    def remove(self, connection_id: str) -> None:
        """No such gateway, and no key of its consumer. Raises BackendUnavailableError."""
        directory = self._directory / connection_id
        if not directory.is_dir():
            return
        self._daemon(connection_id, self._nowhere, AccessMode.READ_ONLY).end()
        try:
            shutil.rmtree(directory)
        except OSError as error:
            raise BackendUnavailableError(f"cannot remove the state of connection {connection_id}: {error}") from error

    def is_serving(self, connection_id: str) -> bool:
        """Whether it runs."""
        return self._daemon(connection_id, self._nowhere, AccessMode.READ_ONLY).pid() is not None

    def ids(self) -> list[str]:
        """The connections that have a gateway, running or not."""
        return [entry.name for entry in self._directory.iterdir()] if self._directory.is_dir() else []

    def portal(self, connection_id: str) -> Portal | None:
        """Where it listens, or is to listen when it runs again; None when it has no port yet."""
        port = _read(self._directory / connection_id / "port")
        if not port:
            return None
        return Portal(_read(self._directory / connection_id / "address") or self._options.address, int(port))

    def _ensure_key(self, directory: Path, spec: ConnectionSpec) -> None:
        keys = directory / "keys.psk"
        line = f"{spec.id}:{spec.secret}\n"
        if _read(keys) == line.strip():
            return
        partial = directory / ".partial-keys"
        partial.unlink(missing_ok=True)
        descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "w", encoding="ascii") as stream:
            stream.write(line)
            stream.flush()
            os.fsync(stream.fileno())
        partial.replace(keys)
        durable.sync_directory(directory)

    def _daemon(self, connection_id: str, portal: Portal, mode: AccessMode) -> Daemon:
        directory = self._directory / connection_id
        writable = mode is AccessMode.READ_WRITE
        upstream = (
            f"nbd,node-name=volume,server.type=unix,server.path={escaped(self._upstream)},export={connection_id},"
            f"reconnect-delay={_WAIT_FOR_MAIN_SECONDS},discard=unmap,cache.direct=on,"
            f"read-only={'off' if writable else 'on'}"
        )
        command = [
            PROGRAM,
            "--object",
            f"tls-creds-psk,id=tls,endpoint=server,dir={escaped(directory)}",
            "--blockdev",
            upstream,
            "--nbd-server",
            f"addr.type=fd,addr.str={LISTENER},tls-creds=tls",
            "--export",
            f"nbd,id=consumer,node-name=volume,name={connection_id},writable={'on' if writable else 'off'}",
            "--pidfile",
            str(pid_file(directory, _NAME)),
        ]
        return Daemon(
            _NAME,
            directory,
            command,
            package=PACKAGE,
            listener=lambda: ports.prompt_listener(portal.address, portal.port),
        )


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii").strip()
    except FileNotFoundError:
        return ""


def escaped(text: Path | str) -> str:
    """A path or name as QEMU's options have it: they are parted by commas."""
    return str(text).replace(",", ",,")
