"""The machines of a test cluster: a head, started by `pumice up`, and storage nodes, started by `pumice join`, each in
a network namespace of its own and with a state directory of its own."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.cluster.network import ADDRESS, Namespace
from tests.integration.clients import eventually
from tests.integration.conftest import PUMICE, Service


def end_all(place: Service) -> None:
    """kill -9 of every process of the place, whoever starts new ones meanwhile."""
    deadline = time.monotonic() + 30
    while running := place.processes():
        assert time.monotonic() < deadline, running
        for pid in running:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.02)


class Head(Service):
    """The head, on this machine's address on the bridge; its API is on loopback."""

    def report(self) -> dict[str, Any]:
        """What `pumice status` says."""
        return dict(json.loads(self.run("status", "--json", timeout=60).stdout))

    def pid(self, title: str) -> int:
        """The process of the head whose command line has `title` in it, once there is one."""
        return int(
            eventually(
                lambda: next((pid for pid, line in self.processes().items() if title in line), 0),
                f"the head has a process {title}",
            )
        )

    def kill(self) -> None:
        """kill -9 of all of it, its supervisor first, or that would mend what dies."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.report()["pid"], signal.SIGKILL)
        end_all(self)


@dataclass
class Node:
    """A storage node. `backend` is the one that its labels choose."""

    name: str
    backend: str
    namespace: Namespace
    zone: str | None
    labels: dict[str, str]
    place: Service
    head: Head
    _joining: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    @property
    def service(self) -> str:
        return f"{self.name}@{self.backend}"

    @property
    def pool(self) -> Path:
        """The directory of its pool."""
        return self.place.state_dir / "pools" / self.backend

    @property
    def output(self) -> Path:
        return self.place.state_dir.parent / f"{self.name}.out"

    def command(self, *more: str) -> list[str]:
        """`pumice join …` on this node."""
        token = self.head.state_dir / "secrets" / "ray.token"
        labels = ",".join(f"{key}={value}" for key, value in self.labels.items())
        arguments = ["--head", self.head.report()["ray_address"], "--token-file", str(token), "--labels", labels]
        arguments += ["--host-name", self.name, *(["--availability-zone", self.zone] if self.zone else [])]
        return self.namespace.within(PUMICE, "join", *arguments, "--state-dir", str(self.place.state_dir), *more)

    def join(self, *more: str) -> None:
        """Begin to join, with `more` options; `is_joined` says when it has."""
        with self.output.open("ab") as output:
            self._joining = subprocess.Popen(
                self.command(*more), env=self.place.environment(), stdout=output, stderr=output, start_new_session=True
            )

    def is_joined(self) -> bool:
        assert self._joining is not None
        assert self._joining.poll() is None, self.output.read_text()
        done = self.place.run("status", "--json", timeout=60)
        return done.returncode == 0 and bool(json.loads(done.stdout)["ready"])

    def leave(self) -> int:
        """Ctrl-C; the exit code."""
        assert self._joining is not None
        self._joining.send_signal(signal.SIGINT)
        return self._joining.wait(90)

    def kill(self) -> None:
        """kill -9 of the whole node, as if the machine had lost its power."""
        assert self._joining is not None
        self._joining.kill()
        end_all(self.place)
        self._joining.wait(30)

    def actor(self) -> int:
        """The process of its volume actor; 0 when there is none."""
        return next((pid for pid, line in self.place.processes().items() if "ray::VolumeActor" in line), 0)

    def files(self) -> set[str]:
        """The names of all volumes and snapshots in its pool, half-made ones included."""
        shelves = [self.pool / shelf for shelf in ("volumes", "snapshots")]
        return {entry.name for shelf in shelves if shelf.is_dir() for entry in shelf.iterdir()}

    def volume_file(self, volume_id: str) -> Path:
        return self.pool / "volumes" / f"volume-{volume_id}"

    def snapshot_file(self, snapshot_id: str) -> Path:
        return self.pool / "snapshots" / f"snapshot-{snapshot_id}"


@contextlib.contextmanager
def head(directory: Path, port: int, backends: dict[str, dict[str, Any]]) -> Iterator[Head]:
    """A running head that runs no backend itself, or it would not be seen that it can."""
    variables = {"PUMICE_CLUSTER_ADDRESS": ADDRESS, "PUMICE_HOST_NAME": "head", "PUMICE_BACKENDS": json.dumps(backends)}
    variables |= {"PUMICE_STORAGE_NETWORK__ALLOW_LIST": "required", "PUMICE_TIMING__RECONCILE": "10"}
    one = Head(directory / "head", port, variables)
    try:
        one.up()
        yield one
        one.down()
    finally:
        one.run("down", timeout=120)


@contextlib.contextmanager
def node(
    directory: Path, of: Head, namespace: Namespace, name: str, backend: str, zone: str | None, labels: dict[str, str]
) -> Iterator[Node]:
    """A node that has begun to join."""
    one = Node(name, backend, namespace, zone, labels, Service(directory / name, 0), of)
    try:
        one.join()
        yield one
        assert one.leave() == 0, one.output.read_text()
        assert one.place.leftovers() == []
    finally:
        if one._joining is not None:
            one._joining.kill()
            one._joining.wait(30)
        one.place.run("down", timeout=120)
