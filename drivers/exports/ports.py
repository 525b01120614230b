"""A free TCP port out of a range. Knows no protocol."""

from __future__ import annotations

import contextlib
import errno
import socket
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from typing import Final

from drivers.vocabulary import BackendUnavailableError

_TRIES: Final = 20


@dataclass(frozen=True, slots=True)
class Range:
    """Ports `first` to `last` of an address of this node."""

    address: str
    first: int
    last: int


def first_that_serves(ports: Range, taken: Collection[int], start: Callable[[int], object]) -> int:
    """The lowest port outside `taken` that nobody listens on and on which `start` succeeds; another process can take a
    port between the look and the start. Raises BackendUnavailableError: what the last `start` did, or that there is no
    port, or that the address is not this node's."""
    tries = 0
    for port in range(ports.first, ports.last + 1):
        if port in taken or not _is_free(ports.address, port):
            continue
        try:
            start(port)
        except BackendUnavailableError:
            tries += 1
            if tries == _TRIES or _is_free(ports.address, port):  # it was not for the port
                raise
        else:
            return port
    raise BackendUnavailableError(f"no free port on {ports.address} in {ports.first}..{ports.last}; widen the range")


def free(ports: Range, taken: Collection[int]) -> Iterator[int]:
    """The ports outside `taken` that nobody listens on now. Raises BackendUnavailableError: no address of this node."""
    return (port for port in range(ports.first, ports.last + 1) if port not in taken and _is_free(ports.address, port))


def prompt_listener(address: str, port: int) -> socket.socket:
    """A socket bound to the port, for a server that is to listen on it. What it accepts inherits TCP_NODELAY: QEMU's
    NBD server sets that itself from 8.1 on, and without it small answers wait 40 ms for the consumer's acknowledgement.
    Raises OSError."""
    made = _stream_socket(address)
    try:
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        made.bind((address, port))
    except OSError:
        made.close()
        raise
    return made


def _stream_socket(address: str) -> socket.socket:
    made = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_STREAM)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    return made


def _is_free(address: str, port: int) -> bool:
    with contextlib.closing(_stream_socket(address)) as trial:
        try:
            trial.bind((address, port))
        except OSError as error:
            if error.errno == errno.EADDRNOTAVAIL:
                raise BackendUnavailableError(f"{address} is not an address of this node; set another") from error
            return False
    return True


def joined(address: str, port: int) -> str:
    """`address:port` as URLs and portals have it."""
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
