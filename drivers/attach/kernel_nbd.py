"""Linux's own network block device over an NBD server on a Unix socket, by netlink. Knows no TLS and no connection.

The kernel keeps a text of its user with a device (NBD_ATTR_BACKEND_IDENTIFIER, from 5.14 on, shown in
`/sys/block/nbdN/backend`) and takes it in the one call that makes the device: a crash leaves one that is whole and says
whose it is, or none. Numbers are those of linux/nbd-netlink.h and linux/genetlink.h; the handshake is that of
doc/proto.md of the NBD project. Blocking code.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import socket
import struct
import time
from pathlib import Path
from typing import Final

_RELEASE: Final = (5, 14)
_BLOCK_BYTES: Final = 512
_VANISH_SECONDS: Final = 10.0
_ANSWER_SECONDS: Final = 20.0
_SYS: Final = Path("/sys/block")

_NETLINK_GENERIC: Final = 16
_HEADER: Final = struct.Struct("=IHHII")
_GENERIC: Final = struct.Struct("=BBH")
_REQUEST_ACK: Final = 1 | 4
_ERROR: Final = 2
_CONTROLLER: Final = 0x10
_GET_FAMILY, _FAMILY_ID, _FAMILY_NAME = 3, 1, 2
_CONNECT, _DISCONNECT = 1, 2
_INDEX, _SIZE, _BLOCK_SIZE, _SERVER_FLAGS, _SOCKETS, _BACKEND = 1, 2, 3, 5, 7, 10
_ITEM, _DESCRIPTOR = 1, 1
_NESTED: Final = 0x8000

_MAGIC: Final = b"NBDMAGICIHAVEOPT"
_REPLY_MAGIC: Final = 0x3E889045565A9
_OPT_GO, _REP_ACK, _REP_INFO, _INFO_EXPORT = 7, 1, 3, 0
_FIXED_NO_ZEROES: Final = 3
_READ_ONLY: Final = 2


def is_there() -> bool:
    """Whether this kernel has network block devices that can be told apart."""
    numbers = tuple(int(part) for part in re.findall(r"\d+", os.uname().release)[:2])
    return numbers >= _RELEASE and (_SYS / "nbd0").exists()


def ensure(identifier: str, server: Path, export: str, *, read_only: bool) -> Path:
    """The device that carries `identifier`, over the export of the server at that socket. Raises OSError."""
    for number in _carrying(identifier):
        return Path(f"/dev/nbd{number}")
    with contextlib.closing(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)) as way:
        way.settimeout(_ANSWER_SECONDS)
        way.connect(str(server))
        size, flags = _handshake(way, export)
        way.settimeout(None)
        _ask(
            _CONNECT,
            _attribute(_SIZE, struct.pack("=Q", size))
            + _attribute(_BLOCK_SIZE, struct.pack("=Q", _BLOCK_BYTES))
            + _attribute(_SERVER_FLAGS, struct.pack("=Q", flags | (_READ_ONLY if read_only else 0)))
            + _attribute(_BACKEND, identifier.encode() + b"\0")
            + _nested(_SOCKETS, _nested(_ITEM, _attribute(_DESCRIPTOR, struct.pack("=I", way.fileno())))),
        )
    for number in _carrying(identifier):
        return Path(f"/dev/nbd{number}")
    raise OSError(errno.ENODEV, "the kernel made a network block device and does not show it")


def ensure_absent(identifier: str) -> None:
    """No device carries `identifier`. Raises OSError: EBUSY while it is mounted, or does not go."""
    deadline = time.monotonic() + _VANISH_SECONDS
    while numbers := _carrying(identifier):
        for number in numbers:
            # The kernel would take it away from under a file system.
            os.close(os.open(f"/dev/nbd{number}", os.O_RDONLY | os.O_EXCL | os.O_CLOEXEC))
            if identifier == _identifier(number):
                _ask(_DISCONNECT, _attribute(_INDEX, struct.pack("=I", number)))
        if time.monotonic() > deadline:
            raise OSError(errno.EBUSY, f"/dev/nbd{numbers[0]} is still open; close what uses it")
        time.sleep(0.02)


def cut(identifier: str) -> None:
    """Whoever waits for the devices that carry `identifier` gets an error now, also from under a file system: the
    driver fails what it has sent and takes nothing new (with no timeout a dead socket alone fails only what comes
    later). Raises OSError."""
    for number in _carrying(identifier):
        _ask(_DISCONNECT, _attribute(_INDEX, struct.pack("=I", number)))


def _carrying(identifier: str) -> list[int]:
    numbers = [int(entry.parent.name.removeprefix("nbd")) for entry in _SYS.glob("nbd*/backend")]
    return [number for number in numbers if _identifier(number) == identifier]


def _identifier(number: int) -> str:
    try:
        return (_SYS / f"nbd{number}" / "backend").read_text(encoding="utf-8").strip()
    except OSError:
        return ""


def _handshake(way: socket.socket, export: str) -> tuple[int, int]:
    """Size in bytes and transmission flags of the export, which the server speaks for from now on. Raises OSError."""
    if _read(way, 18)[:16] != _MAGIC:
        raise OSError(errno.EPROTO, "the server is no NBD server of today")
    name = export.encode()
    option = struct.pack(">I", len(name)) + name + struct.pack(">H", 0)
    way.sendall(struct.pack(">I", _FIXED_NO_ZEROES) + _MAGIC[8:] + struct.pack(">II", _OPT_GO, len(option)) + option)
    found = (0, 0)
    while True:
        magic, _, kind, length = struct.unpack(">QIII", _read(way, 20))
        content = _read(way, length)
        if magic != _REPLY_MAGIC or kind not in (_REP_INFO, _REP_ACK):
            raise OSError(errno.ENOENT, f"the NBD server refused {export}: {content.decode(errors='replace')}")
        if kind == _REP_ACK:
            return found
        if content[:2] == struct.pack(">H", _INFO_EXPORT):
            size, flags = struct.unpack(">QH", content[2:12])
            found = size, flags


def _read(way: socket.socket, length: int) -> bytes:
    content = b""
    while len(content) < length:
        more = way.recv(length - len(content))
        if not more:
            raise ConnectionResetError(errno.ECONNRESET, "the NBD server ended the connection")
        content += more
    return content


def _ask(command: int, attributes: bytes) -> None:
    """Give the driver a command; done when this returns. Raises OSError."""
    with contextlib.closing(socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_GENERIC)) as kernel:
        kernel.bind((0, 0))
        answers = _exchange(kernel, _CONTROLLER, _GET_FAMILY, _attribute(_FAMILY_NAME, b"nbd\0"))
        family = next(struct.unpack("=H", value[:2])[0] for kind, value in _attributes(answers) if kind == _FAMILY_ID)
        _exchange(kernel, family, command, attributes)


def _exchange(kernel: socket.socket, family: int, command: int, attributes: bytes) -> bytes:
    """What the kernel answered before its acknowledgement: attributes. Raises OSError."""
    body = _GENERIC.pack(command, 1, 0) + attributes
    kernel.send(_HEADER.pack(_HEADER.size + len(body), family, _REQUEST_ACK, 1, 0) + body)
    answer = b""
    while True:
        packet = kernel.recv(1 << 16)
        while packet:
            length, kind, *_ = _HEADER.unpack_from(packet)
            content, packet = packet[_HEADER.size : length], packet[_aligned(length) :]
            if kind == _ERROR:
                [code] = struct.unpack_from("=i", content)
                if code:
                    raise OSError(-code, f"the kernel's nbd driver: {os.strerror(-code)}")
                return answer
            answer += content[_GENERIC.size :]


def _attribute(kind: int, value: bytes) -> bytes:
    length = 4 + len(value)
    return struct.pack("=HH", length, kind) + value + bytes(_aligned(length) - length)


def _nested(kind: int, value: bytes) -> bytes:
    return _attribute(kind | _NESTED, value)


def _attributes(content: bytes) -> list[tuple[int, bytes]]:
    found = []
    while len(content) >= 4:
        length, kind = struct.unpack_from("=HH", content)
        found.append((kind, content[4:length]))
        content = content[_aligned(length) :]
    return found


def _aligned(length: int) -> int:
    return (length + 3) & ~3
