"""Giving back to the machine what the exports of a node took of it: loop devices with their limits, and the sockets
of their daemons.

For when the instance ends and none of its processes lives any more: nothing here asks an export. Blocking code.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from drivers.exports import iscsi, local, loop_device, nbd, nbd_gateway
from drivers.exports.loop_limits import LoopLimits
from drivers.exports.place import own_directories
from drivers.vocabulary import StorageError

_CLOSING_SECONDS: Final = 2.0
SERVING: Final = (nbd_gateway.PROGRAM, iscsi.PROGRAM)
"""The programs that serve consumers. They need nothing else of the instance, so they need not end when it starts
anew: the exports find them again."""


def clear(state_dir: Path) -> list[str]:
    """Free the devices and remove the sockets of every export that has its state in `state_dir`; return what could not
    be done. A device that a consumer has open frees itself when it is closed."""
    troubles = []
    for device in devices(state_dir):
        try:
            if not loop_device.unbind(device, _CLOSING_SECONDS):
                troubles.append(f"{device.path} of an attached volume is still open; unmount or close it")
        except OSError as error:
            troubles.append(f"cannot free {device.path}: {error}")
    for directory in own_directories(state_dir):
        try:
            LoopLimits(directory).end()
        except (OSError, StorageError) as error:
            troubles.append(f"cannot take away the limits of devices: {error}")
        for name in (*nbd.SOCKETS, *iscsi.SOCKETS):
            if (directory / name).is_socket():
                (directory / name).unlink(missing_ok=True)
    return troubles


def limited(state_dir: Path) -> Iterator[str]:
    """The names of the devices for which an export `local` of this state directory may have made limits."""
    for directory in own_directories(state_dir):
        yield from LoopLimits(directory).names()


def devices(state_dir: Path) -> Iterator[loop_device.LoopDevice]:
    """The loop devices of every export `local` that has its state in `state_dir`, whatever file is behind them."""
    scopes = {local.scope_of(directory) for directory in own_directories(state_dir)}
    for device in loop_device.bound():
        if device.tag.partition(".")[0] in scopes:
            yield device
