"""A block device on this node for a volume that is reached by NBD, from this node or from another.

    the export ──TLS-PSK over TCP, or its Unix socket──▶ client ──private Unix socket──▶ front ──▶ block device

`client` is a qemu-storage-daemon: it speaks TLS, and connects again when the export was made anew (its volume grew, its
host was started again), for which who reads or writes waits; after _AWAY_SECONDS they get I/O errors. `front` is the
kernel's NBD where it has one (kernel_nbd.py), else nbdfuse with a loop device over its file. Never QEMU's own FUSE
export: that of 7.2 corrupts what a loop device writes.

The directory of a claim is its record: locks, pids and logs of both processes, the socket, the mount point of nbdfuse,
and, only until the client has read it, the key (0600). The device carries the claim's tag. So every part is found
again, and each is undone if it is there, whatever has become of the others. Blocking code.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from drivers.attach import dead_peers, kernel_nbd
from drivers.attach.filesystems import mounted_at
from drivers.attach.programs import AttachError, run
from drivers.exports import loop_device
from drivers.exports.daemon import Daemon, pid_file
from drivers.exports.loop_device import LoopDevice
from drivers.exports.nbd_gateway import PACKAGE, PROGRAM, escaped
from drivers.vocabulary import AccessMode, BackendUnavailableError

FRONT: Final = "nbdfuse"
_FRONT_PACKAGE: Final = "libnbd-bin"
_AWAY_SECONDS: Final = 60
_SILENT_SECONDS: Final = 15.0
_VANISH_SECONDS: Final = 10.0
_END_SECONDS: Final = 2.0
_KEYS: Final = "keys.psk"
_NAME: Final = "volume"


class NbdDevice:
    """The device of one claim. `directory` is the claim's own; `tag` is what its device carries."""

    def __init__(self, directory: Path, tag: str) -> None:
        self._directory = directory
        self._tag = tag
        self._socket = directory / "s"
        self._mount = directory / "m"
        self._front = Daemon("front", directory, [FRONT], package=_FRONT_PACKAGE)
        self._client = Daemon("client", directory, [PROGRAM], package=PACKAGE)

    @property
    def uri(self) -> str:
        """Where programs of this node ask what the volume holds."""
        return f"nbd+unix:///{_NAME}?socket={quote(str(self._socket))}"

    def ensure(self, data: Mapping[str, Any], mode: AccessMode) -> Path:
        """The device over the connection `data`. Raises AttachError."""
        read_only = mode is AccessMode.READ_ONLY
        with _failures():
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            if self._client.pid() is None:
                # What is left over a client that ended gives nothing but errors.
                self._remove_device()
            self._start_client(data, read_only)
            with contextlib.suppress(AttachError):  # whoever repeats it says so
                self.attend()
            if kernel_nbd.is_there():
                return kernel_nbd.ensure(self._tag, self._socket, _NAME, read_only=read_only)
            return self._ensure_loop(read_only)

    def ensure_absent(self) -> None:
        """Nothing of it is left. Raises AttachError when somebody has the device open."""
        if not self._directory.exists():
            return
        with _failures():
            self._remove_device()
            self._client.end(_END_SECONDS)
            shutil.rmtree(self._directory)

    def cut(self) -> None:
        """The volume cannot be reached any more: whoever waits for it gets an error now. Raises AttachError."""
        with _failures():
            # First: the driver tells its server that it leaves, and one that is stopped would not take it.
            self._client.end(0.0)
            kernel_nbd.cut(self._tag)

    def attend(self) -> None:
        """A connection whose other end fell silent ends in time. To be repeated every few seconds, because a client
        that connects again has a new one. Raises AttachError when this process may not."""
        pid = self._client.pid()
        if pid is not None:
            with _failures():
                dead_peers.limit(pid, _SILENT_SECONDS)

    def _start_client(self, data: Mapping[str, Any], read_only: bool) -> None:
        way, needs_key = self._way(data)
        upstream = (
            f"nbd,node-name=volume,{way},export={escaped(data['export'])},reconnect-delay={_AWAY_SECONDS},"
            f"discard=unmap,cache.direct=on,read-only={'on' if read_only else 'off'}"
        )
        command = [
            PROGRAM,
            *(["--object", _credentials(self._directory, data)] if needs_key else []),
            "--blockdev",
            upstream,
            "--nbd-server",
            f"addr.type=unix,addr.path={escaped(self._socket)}",
            "--export",
            f"nbd,id=front,node-name=volume,name={_NAME},writable={'off' if read_only else 'on'}",
            "--pidfile",
            str(pid_file(self._directory, "client")),
        ]
        client = Daemon("client", self._directory, command, package=PACKAGE, control=self._socket)
        keys = self._directory / _KEYS
        try:
            if needs_key and client.pid() is None:
                self._socket.unlink(missing_ok=True)
                _write_key(keys, data)
            client.ensure()
        finally:
            keys.unlink(missing_ok=True)

    def _way(self, data: Mapping[str, Any]) -> tuple[str, bool]:
        """QEMU's options for the server, and whether it takes a key."""
        match data.get("transport"), data.get("tls"):
            case "unix", None:
                return f"server.type=unix,server.path={escaped(data['socket'])}", False
            case "tcp", "psk":
                host = escaped(data["host"])
                return f"server.type=inet,server.host={host},server.port={int(data['port'])},tls-creds=tls", True
            case transport, tls:
                raise AttachError(
                    f"NBD by {transport!r} with TLS {tls!r} is not known here; unix, or tcp with psk, are"
                )

    def _ensure_loop(self, read_only: bool) -> Path:
        file = self._mount / _NAME
        if self._front.pid() is None:
            self._remove_device()
        self._mount.mkdir(mode=0o700, exist_ok=True)
        command = [FRONT, *(["--readonly"] if read_only else []), "--pidfile"]
        command += [str(pid_file(self._directory, "front")), str(file), self.uri]
        Daemon("front", self._directory, command, package=_FRONT_PACKAGE).ensure()
        for found in self._loops():
            return found.path
        return loop_device.bind(file, self._tag, read_only=read_only).path

    def _remove_device(self) -> None:
        kernel_nbd.ensure_absent(self._tag)
        free(self._loops())
        self._unmount_front()
        self._front.end(_END_SECONDS)

    def _unmount_front(self) -> None:
        """Its mount point is gone, also that of a process that has ended, or that is just starting and mounts between
        the two steps. The kernel lets go of a loop device's file a little later than of the device."""
        deadline = time.monotonic() + _VANISH_SECONDS
        while True:
            try:
                if mounted_at(self._mount) is not None:
                    run(["umount", str(self._mount)])
                with contextlib.suppress(FileNotFoundError):
                    self._mount.rmdir()
            except (AttachError, OSError):
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.02)
            else:
                return

    def _loops(self) -> Iterator[LoopDevice]:
        """Those over this claim's file. Where nbdfuse has ended, the kernel does not tell the tag."""
        file = str(self._mount / _NAME)
        for device in loop_device.bound():
            if device.tag == self._tag or (not device.tag and device.backing == file):
                yield device


def free(found: Iterable[LoopDevice]) -> None:
    """These loop devices are bound no more. Raises AttachError when somebody has one open, OSError."""
    for device in found:
        if not loop_device.unbind(device, _VANISH_SECONDS):
            raise AttachError(f"{device.path} is still open by another process; close what uses it")


def _credentials(directory: Path, data: Mapping[str, Any]) -> str:
    identity = escaped(data["psk_identity"])
    return f"tls-creds-psk,id=tls,endpoint=client,dir={escaped(directory)},username={identity}"


def _write_key(keys: Path, data: Mapping[str, Any]) -> None:
    keys.unlink(missing_ok=True)
    descriptor = os.open(keys, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "w", encoding="ascii") as stream:
        stream.write(f"{data['psk_identity']}:{data['psk_key']}\n")


@contextlib.contextmanager
def _failures() -> Iterator[None]:
    try:
        yield
    except KeyError as error:
        raise AttachError(f"the export did not say {error} of its connection") from error
    except (OSError, BackendUnavailableError, subprocess.SubprocessError) as error:
        raise AttachError(f"no device over the volume: {error}") from error
