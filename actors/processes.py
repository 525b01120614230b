"""The processes of an instance, found by the mark in their environment, and their end. No Ray here.

A process group would not do: Ray's workers leave theirs, and what a crash of `pumice up` left behind has no parent.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import time
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

MARK = "PUMICE_INSTANCE"
_PROC = Path("/proc")


@dataclass(frozen=True)
class Process:
    """A running process. `name` is its executable's name or what it calls itself (`ray::…`)."""

    pid: int
    name: str
    argv: tuple[str, ...]


def of_instance(mark: str) -> list[Process]:
    """The processes that carry `mark`, without this one and those it descends from."""
    mine = set(_ancestry())
    return [process for process in _all(mark) if process.pid not in mine]


def find(mark: str, *names: str) -> list[Process]:
    """Those processes of the instance whose program (or a script among the arguments) has one of these names."""
    return [
        process
        for process in of_instance(mark)
        if process.name in names or any(argument.rsplit("/", 1)[-1] in names for argument in process.argv[:4])
    ]


def stop(
    mark: str, *, first: Collection[str], spare: Collection[str] = (), grace_seconds: float = 1.0
) -> list[Process]:
    """End every process of the instance but those whose program is named in `spare`: those named `first` are asked and
    given the grace, then all are killed.

    Returns those which even then did not go within ten seconds.
    """
    for process in find(mark, *first):
        send(process, mark, signal.SIGTERM)
    deadline = time.monotonic() + grace_seconds
    while find(mark, *first) and time.monotonic() < deadline:
        reap()
        time.sleep(0.05)
    with contextlib.ExitStack() as closing:
        handles: dict[int, tuple[Process, int]] = {}
        deadline = time.monotonic() + 10
        while True:
            for process in of_instance(mark):
                if process.name in spare:
                    continue
                if process.pid not in handles and (handle := _open(process.pid)) is not None:
                    closing.callback(os.close, handle)
                    handles[process.pid] = process, handle
                send(process, mark, signal.SIGKILL)
            reap()
            left = [process for process, handle in handles.values() if not _has_ended(handle)]
            if not left or time.monotonic() > deadline:
                return left
            time.sleep(0.05)


def _open(pid: int) -> int | None:
    try:
        return os.pidfd_open(pid)
    except ProcessLookupError:
        return None


def _has_ended(handle: int) -> bool:
    # Not the mark: a process that is ending has lost its environment while it still holds files, and with them mounts.
    return bool(select.select([handle], [], [], 0)[0])


def send(process: Process, mark: str, number: signal.Signals) -> None:
    """Signal the process unless it is gone. A process that has got its number since is not hit."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        handle = os.pidfd_open(process.pid)
        try:
            if _carries(process.pid, mark):
                signal.pidfd_send_signal(handle, number)
        finally:
            os.close(handle)


def reap(keep: Collection[int] = ()) -> None:
    """Bury dead children that nobody waits for (orphans come to us, see `adopt_orphans`), except `keep`."""
    for child in _children(os.getpid()):
        if child not in keep and _state(child) == "Z":
            with contextlib.suppress(ChildProcessError):
                os.waitpid(child, os.WNOHANG)


def adopt_orphans() -> None:
    """Become the parent of descendants whose own parent ends (prctl PR_SET_CHILD_SUBREAPER)."""
    import ctypes

    pr_set_child_subreaper = 36
    ctypes.CDLL(None, use_errno=True).prctl(pr_set_child_subreaper, 1, 0, 0, 0)


def is_alive(pid: int) -> bool:
    """Whether the process runs (a zombie does not)."""
    return _state(pid) not in ("", "Z", "X")


def is_stopped(pid: int) -> bool:
    """Whether somebody has stopped the process (SIGSTOP, Ctrl-Z): it is there and does not run."""
    return _state(pid) == "T"


def started_at(pid: int) -> str:
    """When the process began, in the kernel's ticks: with the pid it names one process. Empty: there is none."""
    fields = _stat(pid)
    return fields[19] if len(fields) > 19 else ""


def _all(mark: str) -> Iterator[Process]:
    for entry in os.scandir(_PROC):
        if entry.name.isdigit() and _carries(int(entry.name), mark):
            with contextlib.suppress(OSError):
                raw = (_PROC / entry.name / "cmdline").read_bytes().rstrip(b"\0").split(b"\0")
                argv = tuple(os.fsdecode(part) for part in raw)
                yield Process(int(entry.name), argv[0].rsplit("/", 1)[-1], argv)


def _carries(pid: int, mark: str) -> bool:
    try:
        entries = (_PROC / str(pid) / "environ").read_bytes().split(b"\0")
    except OSError:
        return False
    return f"{MARK}={mark}".encode() in entries


def _ancestry() -> Iterator[int]:
    pid = os.getpid()
    while pid > 0:
        yield pid
        fields = _stat(pid)
        pid = int(fields[1]) if len(fields) > 1 else 0


def _children(pid: int) -> list[int]:
    return [
        int(entry.name)
        for entry in os.scandir(_PROC)
        if entry.name.isdigit() and (fields := _stat(int(entry.name))) and fields[1] == str(pid)
    ]


def _state(pid: int) -> str:
    fields = _stat(pid)
    return fields[0] if fields else ""


def _stat(pid: int) -> list[str]:
    """The fields of /proc/PID/stat behind the name: state, parent, …"""
    try:
        return (_PROC / str(pid) / "stat").read_text(errors="replace").rpartition(")")[2].split()
    except OSError:
        return []
