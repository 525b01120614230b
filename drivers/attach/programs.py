"""Calling programs of the system: as lists, without a shell, with the locale C, and never for ever.

AttachError         a program of the system refused; the message has what it said, or that it is missing
"""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

_SECONDS: Final = 100.0
_LAST_SECONDS: Final = 20.0


class AttachError(Exception):
    """The device cannot be used."""


@dataclass(frozen=True, slots=True)
class Watch:
    """For programs that wait in the kernel for a device, which cannot be killed. `moved` tells what has changed when it
    goes on, `give_up` makes what they wait for fail."""

    moved: Callable[[], str]
    give_up: Callable[[], None]


def run(command: list[str], good: tuple[int, ...] = (0,), *, watch: Watch | None = None) -> str:
    """What the program printed. One that is not done in time is ended; with a `watch`, one of which nothing moves.
    Raises AttachError."""
    environment = {**os.environ, "LC_ALL": "C", "PATH": f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"}
    try:
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment, errors="replace"
        )
    except FileNotFoundError as error:
        raise AttachError(f"{command[0]} is not installed on this node") from error
    with process:
        try:
            said, complained, is_late = _end_of(process, watch)
        except BaseException:
            process.kill()
            raise
    if process.returncode in good:
        return said
    if is_late:
        raise AttachError(f"{command[0]} was not done after {_SECONDS:g} s")
    if process.returncode < 0:
        name = signal.strsignal(-process.returncode) or "unknown"
        raise AttachError(f"{command[0]} was ended by signal {-process.returncode} ({name})")
    lines = (complained or said).strip().splitlines()
    # mount goes on with where more may be found; what it is about comes first.
    raise AttachError(f"{command[0]}: {lines[0] if lines else f'exit status {process.returncode}'}")


def _end_of(process: subprocess.Popen[str], watch: Watch | None) -> tuple[str, str, bool]:
    """What it printed, to both streams, and whether it had to be killed."""
    while True:
        before = watch.moved() if watch else ""
        try:
            return *process.communicate(timeout=_SECONDS), False
        except subprocess.TimeoutExpired:
            if watch is not None and watch.moved() != before:
                continue
        if watch is not None:
            watch.give_up()
        try:
            return *process.communicate(timeout=_LAST_SECONDS), False
        except subprocess.TimeoutExpired:
            process.kill()
            return *process.communicate(), True
