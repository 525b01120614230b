"""The processes of an instance that faults hit, found by the mark in their environment."""

from __future__ import annotations

import signal
from pathlib import Path

from actors import processes
from actors.processes import Process

# What each is called, as its title begins. `up` is found by its own record.
TITLES = {
    "volume": "ray::VolumeActor",
    "conductor": "ray::ConductorActor",
    "scheduler": "ray::SchedulerActor",
    "replica": "ray::ServeReplica:",
    "haproxy": "haproxy",
    "proxy": "ray::HAProxyManager",
    "fallback": "ray::ProxyActor",
    "controller": "ray::ServeController",
    "gcs": "gcs_server",
    "raylet": "raylet",
    "agent": "ray::RuntimeEnvAgent",
}


class Targets:
    """Those of the instance with this mark; `replicas` is how many API replicas there should be."""

    def __init__(self, mark: str, replicas: int) -> None:
        self.mark = mark
        self._wanted = dict.fromkeys(TITLES, 1) | {"replica": replicas}

    def find(self, name: str) -> list[Process]:
        """The running processes of one kind, by pid."""
        found = [process for process in processes.of_instance(self.mark) if process.name.startswith(TITLES[name])]
        return sorted(found, key=lambda process: process.pid)

    def missing(self) -> list[str]:
        """Which kinds have fewer than there should be; one that is stopped is none."""
        there = [process.name for process in processes.of_instance(self.mark) if _runs(process.pid)]
        return [
            name
            for name, count in self._wanted.items()
            if sum(title.startswith(TITLES[name]) for title in there) < count
        ]

    def send(self, process: Process, number: signal.Signals) -> None:
        """Signal it unless it is gone."""
        processes.send(process, self.mark, number)


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()[0] not in "TtZX"
    except (OSError, IndexError):
        return False
