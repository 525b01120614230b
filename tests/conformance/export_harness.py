"""What the suite needs to know about an export under test, and how its consumers come: QEMU's user-space initiators.

`qemu-io` and `qemu-img` reach a loop device, NBD (TLS-PSK too) and iSCSI (CHAP) without the kernel's help.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
import uuid
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from actors import processes
from drivers import export_registry
from drivers.exports import loop_device
from drivers.protocols import Export
from drivers.vocabulary import UNLIMITED, AccessMode, ConnectionInfo, ConnectionSpec, Limits
from tests import initiators
from tests.initiators import Target

VOLUME_BYTES = 1 << 30
HOST = "this-node"
INITIATOR = "iqn.1994-05.com.example:consumer"
_CLIENT_SECONDS = 30


class RefusedError(Exception):
    """The initiator could not connect, read or write; what it said."""


@dataclass
class Place:
    """A directory with a short name (it has Unix sockets), whose daemons carry a mark of their own."""

    directory: Path = field(default_factory=lambda: Path(tempfile.mkdtemp(prefix="pmx-")))
    mark: str = field(default_factory=lambda: f"exports-{uuid.uuid4()}")

    def volume(self, size_bytes: int = VOLUME_BYTES) -> tuple[str, Path]:
        """Another volume: its id and its sparse file."""
        volume_id = str(uuid.uuid4())
        path = self.directory / f"volume-{volume_id}"
        with path.open("wb") as stream:
            stream.truncate(size_bytes)
        return volume_id, path

    def daemons(self) -> list[processes.Process]:
        """The processes that serve."""
        return [found for found in processes.of_instance(self.mark) if processes.is_alive(found.pid)]

    def kill_daemons(self) -> None:
        """kill -9 each, and wait until they are gone."""
        deadline = time.monotonic() + 20
        while found := self.daemons():
            assert time.monotonic() < deadline, f"{found} do not end"
            for process in found:
                processes.send(process, self.mark, signal.SIGKILL)
            time.sleep(0.01)

    def loop_devices(self) -> list[loop_device.LoopDevice]:
        """Those over files of this place."""
        return [found for found in loop_device.bound() if found.backing.startswith(f"{self.directory}/")]

    def leave(self) -> None:
        """Nothing is left of this place."""
        self.kill_daemons()
        for device in self.loop_devices():
            loop_device.unbind(device, 5)
        shutil.rmtree(self.directory)


class ExportHarness(ABC):
    """One way of one export."""

    name: str
    protocol: str
    options: ClassVar[Mapping[str, object]] = {}
    tools: ClassVar[Mapping[str, str]] = {"qemu-io": "qemu-utils", "qemu-img": "qemu-utils"}
    ends_sessions = True
    """Whether a consumer that has it open loses it (else the removal is refused while it has)."""
    has_daemon = True

    def __init__(self, place: Place) -> None:
        self.place = place
        for tool, package in self.tools.items():
            assert shutil.which(tool), f"{tool} is missing: apt-get install {package}"

    def export(self) -> Export:
        """A new object on the place's state, not open: another life of the volume actor."""
        return export_registry.create(self.protocol, self.options, self.place.directory, "b", HOST)

    def connector(self) -> dict[str, Any]:
        """Of a consumer that this harness can be."""
        return {"host": HOST, "ip": "127.0.0.1", "initiator": self.initiator(), "multipath": False}

    def initiator(self) -> str:
        """An initiator name."""
        return INITIATOR

    def spec(
        self,
        volume_id: str,
        mode: AccessMode = AccessMode.READ_WRITE,
        *,
        limits: Limits = UNLIMITED,
        connection_id: str | None = None,
    ) -> ConnectionSpec:
        """Another consumer's connection."""
        return ConnectionSpec(
            id=connection_id or str(uuid.uuid4()),
            volume_id=volume_id,
            size_gib=1,
            mode=mode,
            connector=self.connector(),
            secret=os.urandom(32).hex(),
            limits=limits,
        )

    @abstractmethod
    def target(self, info: ConnectionInfo) -> Target:
        """How the consumer opens it."""

    def impostors(self, mine: ConnectionInfo, another: ConnectionInfo) -> list[Target]:
        """Ways of somebody who must not come in: who guesses, and who holds `mine` and wants `another`."""
        return []

    async def write(self, info: ConnectionInfo, offset: int, data: bytes) -> None:
        """Write through the export, durably. Raises RefusedError."""
        with tempfile.NamedTemporaryFile(dir=self.place.directory) as source:
            source.write(data)
            source.flush()
            await self.io(self.target(info), f"write -s {source.name} {offset} {len(data)}", "flush")

    async def read(self, info: ConnectionInfo, offset: int, length: int, block: int = 4096) -> bytes:
        """Read through the export; multiples of `block`. Raises RefusedError."""
        target = self.target(info)
        with tempfile.NamedTemporaryFile(dir=self.place.directory) as sink:
            part = [f"bs={block}", f"skip={offset // block}", f"count={(offset + length) // block}"]
            files = [f"if={target.image}", f"of={sink.name}"]
            await run(["qemu-img", "dd", *target.arguments(), "-O", "raw", *part, *files])
            found = Path(sink.name).read_bytes()
        assert len(found) == length
        return found

    async def io(self, target: Target, *commands: str, read_only: bool = False) -> str:
        """What qemu-io says of the commands. Raises RefusedError when one fails."""
        orders = [part for command in commands for part in ("-c", command)]
        flags = ["-r"] if read_only else []
        return await run(["qemu-io", "-t", "none", *flags, *target.arguments(), *orders, target.image])

    async def size(self, info: ConnectionInfo) -> int:
        """The size in bytes that the consumer sees now."""
        target = self.target(info)
        options = ["--image-opts"] if target.is_image_options else ["-f", "raw"]
        objects = [part for item in target.objects for part in ("--object", item)]
        said = await run(["qemu-img", "info", "--output=json", *objects, *options, target.image])
        return int(json.loads(said)["virtual-size"])

    async def session(self, info: ConnectionInfo, *options: str) -> Session:
        """A consumer that opens it, with more image options, and keeps it open; `close` it."""
        target = self.target(info)
        process = await asyncio.create_subprocess_exec(
            *("qemu-io", "-t", "none", *target.arguments(), ",".join((target.image, *options))),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=_unmarked(),
        )
        return Session(process)


class Session:
    """A `qemu-io` that takes one order after the other."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def order(self, command: str, seconds: float) -> bool:
        """Whether it did that within the time."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        said = b""
        try:
            async with asyncio.timeout(seconds):
                self._process.stdin.write(f"{command}\n".encode())
                await self._process.stdin.drain()
                while b" ops; " not in said and b"failed" not in said:
                    if not (chunk := await self._process.stdout.read(4096)):
                        return False
                    said += chunk
        except (TimeoutError, ConnectionError):
            return False
        return b"failed" not in said

    async def close(self) -> None:
        """It is gone."""
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()
        await self._process.wait()


class LocalLoop(ExportHarness):
    """A loop device of this node."""

    name = "local-loop"
    protocol = "local"
    ends_sessions = False
    has_daemon = False

    def target(self, info: ConnectionInfo) -> Target:
        """The device node."""
        return initiators.device(Path(info.data["device_path"]))


class NbdUnix(ExportHarness):
    """NBD by the Unix socket."""

    name = "nbd-unix"
    protocol = "nbd"
    tools: ClassVar[Mapping[str, str]] = {**ExportHarness.tools, "qemu-storage-daemon": "qemu-system-common"}

    def target(self, info: ConnectionInfo) -> Target:
        """By socket and export."""
        return initiators.nbd_by_socket(info.data)


class NbdTcp(NbdUnix):
    """NBD by TCP with TLS-PSK."""

    name = "nbd-tcp"
    options: ClassVar[Mapping[str, object]] = {"transport": "tcp", "port_first": 21900, "port_last": 22100}

    def target(self, info: ConnectionInfo) -> Target:
        """By address, with the key from a file."""
        return self._target(info, info.data["psk_identity"], info.data["psk_key"], info.data["export"])

    def _target(self, info: ConnectionInfo, identity: str, key: str, export: str) -> Target:
        return initiators.nbd_by_tls(info.data, identity, key, export, self.place.directory)

    def impostors(self, mine: ConnectionInfo, another: ConnectionInfo) -> list[Target]:
        """Wrong key; my key at another's door, under both names; another's export through my door; no TLS."""
        plain = f"driver=nbd,server.type=inet,server.host={another.data['host']},server.port={another.data['port']}"
        mine_key = (mine.data["psk_identity"], mine.data["psk_key"])
        return [
            self._target(another, another.data["psk_identity"], os.urandom(32).hex(), another.data["export"]),
            self._target(another, *mine_key, another.data["export"]),
            self._target(another, another.data["psk_identity"], mine.data["psk_key"], another.data["export"]),
            self._target(mine, *mine_key, another.data["export"]),
            Target(f"{plain},export={another.data['export']}"),
        ]


class Iscsi(ExportHarness):
    """iSCSI with CHAP, by libiscsi."""

    name = "iscsi"
    protocol = "iscsi"
    options: ClassVar[Mapping[str, object]] = {"port_first": 21800, "port_last": 21899}
    tools: ClassVar[Mapping[str, str]] = {**ExportHarness.tools, "tgtd": "tgt", "iscsi-ls": "libiscsi-bin"}

    def target(self, info: ConnectionInfo) -> Target:
        """With the password from a file."""
        return self._target(info, info.data["auth_username"], info.data["auth_password"], self.initiator())

    def _target(self, info: ConnectionInfo, user: str, password: str, initiator: str) -> Target:
        return initiators.iscsi(info.data, user, password, initiator, self.place.directory)

    def impostors(self, mine: ConnectionInfo, another: ConnectionInfo) -> list[Target]:
        """Wrong password; my account; another's account with my password; another initiator; no CHAP."""
        data = another.data
        plain = (
            f"driver=iscsi,transport=tcp,portal={data['target_portal']},target={data['target_iqn']},lun=1,"
            f"initiator-name={self.initiator()}"
        )
        return [
            self._target(another, data["auth_username"], "0" * 32, self.initiator()),
            self._target(another, mine.data["auth_username"], mine.data["auth_password"], self.initiator()),
            self._target(another, data["auth_username"], mine.data["auth_password"], self.initiator()),
            self._target(another, data["auth_username"], data["auth_password"], "iqn.1994-05.com.example:other"),
            Target(plain),
        ]


HARNESSES: list[type[ExportHarness]] = [LocalLoop, NbdUnix, NbdTcp, Iscsi]
DAEMONS: list[type[ExportHarness]] = [NbdUnix, NbdTcp, Iscsi]


def stored(path: Path, offset: int, length: int) -> bytes:
    """What is in the volume's file."""
    with path.open("rb") as stream:
        stream.seek(offset)
        return stream.read(length)


def _unmarked() -> dict[str, str]:
    """The environment of a consumer, which is no process of the instance."""
    return {name: value for name, value in os.environ.items() if name != processes.MARK}


async def run(command: list[str]) -> str:
    """What a client says. Raises RefusedError when it or a command of it fails, or waits too long."""
    client = await asyncio.create_subprocess_exec(
        *command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=_unmarked()
    )
    try:
        async with asyncio.timeout(_CLIENT_SECONDS):
            said, _ = await client.communicate()
    except TimeoutError:
        client.kill()
        await client.wait()
        raise RefusedError(f"{command[0]} waits") from None
    text = said.decode(errors="replace")
    # qemu-io ends well even where a command of its failed.
    if client.returncode != 0 or any(word in text for word in ("failed:", "error:", "Permission denied", "read-only")):
        raise RefusedError(text)
    return text
