"""The ways by which the benchmark reaches volumes: of each the volume type, the consumer, and how a tool opens it.

Two tools, for neither can do all: Debian's fio has no iSCSI and takes no keys for TLS, and qemu-io, which does both, is
a slower tool. Each way is compared with the plain file under its own tool.
"""

from __future__ import annotations

import socket
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

from tests import initiators

REMOTE: Final = "remote"
"""The backend whose consumers come by TCP, as from another node."""
_INITIATOR: Final = "iqn.1994-05.com.example:bench"
CONNECTOR: Final = {
    "host": socket.gethostname(),
    "ip": "127.0.0.1",
    "initiator": _INITIATOR,
    "platform": "x86_64",
    "os_type": "linux",
    "multipath": False,
}


class Tool(StrEnum):
    """What reads and writes."""

    FIO = "fio"
    QEMU_IO = "qemu-io"


@dataclass(frozen=True, slots=True)
class Opened:
    """A volume or file as a tool opens it: `arguments` of that tool."""

    name: str
    tool: Tool
    arguments: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Way:
    """An export as a consumer sees it. `backend` and `protocol` are what its volume type asks for."""

    name: str
    backend: str
    protocol: str
    tool: Tool

    @property
    def type_name(self) -> str:
        """The name of its volume type."""
        return f"bench-{self.name.replace(' ', '-')}"

    @property
    def extra_specs(self) -> dict[str, str]:
        """What its volume type asks for."""
        return {"volume_backend_name": self.backend, "storage_protocol": self.protocol}

    def opened(self, info: Mapping[str, Any], keys: Path) -> Opened:
        """How it is opened, from the attachment's connection info. `keys` is a directory for what is secret."""
        if self.tool is Tool.QEMU_IO:
            return _by_qemu(self.name, initiators.of_info(info, _INITIATOR, keys))
        if info["driver_volume_type"] == "nbd":
            return Opened(self.name, self.tool, ("--ioengine=nbd", f"--uri={info['uri']}"))
        return plain(self.name, self.tool, Path(info["device_path"]))


WAYS: Final = (
    Way("local loop", "reflink", "local", Tool.FIO),
    Way("nbd unix", "reflink", "nbd", Tool.FIO),
    Way("nbd tcp tls", REMOTE, "nbd", Tool.QEMU_IO),
    Way("iscsi chap", "reflink", "iscsi", Tool.QEMU_IO),
)


def plain(name: str, tool: Tool, path: Path) -> Opened:
    """A file or device by direct I/O."""
    if tool is Tool.QEMU_IO:
        return _by_qemu(name, initiators.device(path))
    return Opened(name, tool, ("--ioengine=libaio", "--direct=1", f"--filename={path}"))


def _by_qemu(name: str, target: initiators.Target) -> Opened:
    return Opened(name, Tool.QEMU_IO, ("-t", "none", *target.arguments(), target.image))
