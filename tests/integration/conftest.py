"""A real instance, started as a user starts it: `pumice up --detach` on a directory of its own."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

PUMICE = str(Path(sys.executable).with_name("pumice"))
UP_SECONDS = 280


@dataclass(frozen=True)
class Service:
    """A place for an instance, and what its user knows of it. `variables` are settings as PUMICE_… variables."""

    state_dir: Path
    port: int
    variables: dict[str, str] = field(default_factory=dict)

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def clouds_yaml(self) -> Path:
        return self.state_dir / "clouds.yaml"

    def environment(self) -> dict[str, str]:
        clean = {key: value for key, value in os.environ.items() if not key.startswith(("PUMICE_", "OS_"))}
        return {**clean, **self.variables, "OS_CLIENT_CONFIG_FILE": str(self.clouds_yaml)}

    def run(self, *arguments: str, timeout: float = UP_SECONDS) -> subprocess.CompletedProcess[str]:
        """`pumice ARGUMENTS --state-dir …`, to its end."""
        command = [PUMICE, *arguments, "--state-dir", str(self.state_dir)]
        return subprocess.run(command, env=self.environment(), capture_output=True, text=True, timeout=timeout)

    def up(self) -> None:
        """Start it in the background; it is ready when this returns."""
        done = self.run("up", "--port", str(self.port), "--detach")
        assert done.returncode == 0, done.stdout + done.stderr

    def down(self) -> None:
        """Stop it; nothing of it may be left on the machine."""
        done = self.run("down", timeout=120)
        assert done.returncode == 0, done.stdout + done.stderr
        assert self.leftovers() == []

    def processes(self) -> dict[int, str]:
        """Pid → command line of the processes that carry this PUMICE_STATE_DIR."""
        found = {}
        for entry in Path("/proc").iterdir():
            with contextlib.suppress(OSError):
                variables = (entry / "environ").read_bytes().split(b"\0") if entry.name.isdigit() else []
                if f"PUMICE_STATE_DIR={self.state_dir}".encode() in variables:
                    found[int(entry.name)] = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
        return found

    def leftovers(self) -> list[str]:
        """Processes, mounts and loop devices that belong to the state directory."""
        mounts = [line for line in Path("/proc/self/mountinfo").read_text().splitlines() if str(self.state_dir) in line]
        loops = []
        for backing in Path("/sys/block").glob("loop*/loop/backing_file"):
            with contextlib.suppress(OSError):
                loops += [name for name in [backing.read_text().strip()] if name.startswith(str(self.state_dir))]
        return [*self.processes().values(), *mounts, *loops]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def place() -> Iterator[Service]:
    """Room for an instance that the test starts itself; whatever it leaves is taken down."""
    with _place("place") as service:
        yield service


@pytest.fixture(scope="session")
def service() -> Iterator[Service]:
    """The running instance that tests share."""
    with _place("service") as instance:
        instance.up()
        yield instance


@contextlib.contextmanager
def _place(name: str) -> Iterator[Service]:
    directory = Path(tempfile.mkdtemp(prefix=f"pumice-{name}-"))
    instance = Service(directory / "state", free_port())
    try:
        yield instance
        instance.down()
    finally:
        instance.run("down", timeout=120)
        if instance.leftovers() == []:
            shutil.rmtree(directory, ignore_errors=True)
