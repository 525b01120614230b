"""What a service's processes take of the machine: proportional memory (PSS) and CPU time, by process name.

Two ways to find the processes: by a variable in their environment, or by pid files with all descendants.
"""

from __future__ import annotations

import contextlib
import os
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")
TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
Finder = Callable[[], dict[int, str]]
"""Finds the processes to count: the name to count each pid under."""


@dataclass(frozen=True, slots=True)
class Memory:
    """Memory of all processes of one name, in MiB."""

    processes: int
    pss_mib: float
    rss_mib: float


def of_nobody() -> dict[int, str]:
    """For a service whose processes cannot be seen."""
    return {}


def with_variable(name: str, value: str) -> Finder:
    """The processes that were started with this environment variable, without this one."""
    wanted = f"{name}={value}".encode()

    def find() -> dict[int, str]:
        return {pid: _name(pid) for pid in _pids() if pid != os.getpid() and wanted in _environment(pid)}

    return find


def of_pid_files(directory: Path) -> Finder:
    """The process of each NAME.pid in `directory`, and its descendants, counted under NAME."""

    def find() -> dict[int, str]:
        children: dict[int, list[int]] = defaultdict(list)
        for pid in _pids():
            children[_parent(pid)].append(pid)
        found: dict[int, str] = {}
        for file in sorted(directory.glob("*.pid")):
            with contextlib.suppress(ValueError, IndexError, OSError):
                waiting = [int(file.read_text().split()[0])]
                while waiting:
                    pid = waiting.pop()
                    if pid not in found and (PROC / str(pid)).exists():
                        found[pid] = file.stem
                        waiting += children[pid]
        return found

    return find


def cpu_seconds(pids: dict[int, str]) -> dict[str, float]:
    """CPU time that these processes have had, by name. One that is gone counts nothing."""
    total: dict[str, float] = defaultdict(float)
    for pid, name in pids.items():
        fields = _stat(pid)
        total[name] += (int(fields[11]) + int(fields[12])) / TICKS_PER_SECOND if fields else 0.0
    return dict(total)


def memory(pids: dict[int, str]) -> dict[str, Memory]:
    """Memory by name. Shared pages count once over all processes of the machine in PSS, in each process in RSS."""
    total: dict[str, Memory] = {}
    for pid, name in sorted(pids.items(), key=lambda item: item[1]):
        try:
            lines = (PROC / str(pid) / "smaps_rollup").read_text().splitlines()[1:]
        except OSError:
            continue
        kib = {line.split(":")[0]: int(line.split()[1]) for line in lines}
        before = total.get(name, Memory(0, 0.0, 0.0))
        total[name] = Memory(
            before.processes + 1,
            before.pss_mib + kib.get("Pss", 0) / 1024,
            before.rss_mib + kib.get("Rss", 0) / 1024,
        )
    return total


def machine_seconds() -> tuple[float, float]:
    """CPU time of the whole machine since it booted: busy, and in all."""
    with (PROC / "stat").open(encoding="ascii") as file:
        ticks = [int(field) for field in file.readline().split()[1:9]]
    idle = ticks[3] + ticks[4]
    return (sum(ticks) - idle) / TICKS_PER_SECOND, sum(ticks) / TICKS_PER_SECOND


def display_name(argv: list[str], comm: str) -> str:
    """What a person would call a process: `ray::Class` without the method it is in, a script rather than `python`."""
    if not argv or not argv[0]:
        return comm
    if argv[0].startswith("ray::"):
        return argv[0].partition(" ")[0].partition(".")[0]
    program = argv[0].partition(" ")[0].rsplit("/", 1)[-1]
    if not program.startswith("python"):
        return program
    rest = iter(argv[1:])
    for argument in rest:
        if argument == "-m":
            return next(rest, program)
        if argument == "-c":
            return program
        if not argument.startswith("-"):
            return argument.rsplit("/", 1)[-1]
    return program


def _name(pid: int) -> str:
    try:
        argv = (PROC / str(pid) / "cmdline").read_bytes().rstrip(b"\0").decode(errors="replace").split("\0")
        return display_name(argv, (PROC / str(pid) / "comm").read_text().strip())
    except OSError:
        return "gone"


def _pids() -> Iterator[int]:
    return (int(entry.name) for entry in os.scandir(PROC) if entry.name.isdigit())


def _environment(pid: int) -> list[bytes]:
    try:
        return (PROC / str(pid) / "environ").read_bytes().split(b"\0")
    except OSError:
        return []


def _parent(pid: int) -> int:
    fields = _stat(pid)
    return int(fields[1]) if fields else 0


def _stat(pid: int) -> list[str]:
    """The fields of /proc/PID/stat behind the name; empty when the process is gone."""
    try:
        return (PROC / str(pid) / "stat").read_text(errors="replace").rpartition(")")[2].split()
    except OSError:
        return []
