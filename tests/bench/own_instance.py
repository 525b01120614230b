"""An instance of Pumice for the benchmark alone: started in a temporary directory, stopped and removed at the end."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import tomli_w

from tests.bench import identity, processes
from tests.bench.client import Client
from tests.bench.target import Target
from tests.bench.ways import REMOTE

BACKENDS = ("reflink", "memory")
# More of everything than the phases ask for; thin volumes of 100 GiB cost the machine nothing.
_OPTIONS: dict[str, dict[str, object]] = {
    "reflink": {"image_size_gib": 100, "max_over_subscription_ratio": 1000.0},
    "memory": {"capacity_gib": 100_000},
}
_QUOTAS = ("volumes", "snapshots", "gigabytes")


class InstanceError(Exception):
    """Pumice did not start."""


@contextmanager
def own_instance(backend: str, *, exports: bool = False) -> Iterator[Target]:
    """Pumice with this backend and no quotas, ready for volumes. With `exports`, its volumes can be reached by every
    export, and there is a second backend whose consumers come by TCP. Raises InstanceError, SignInError."""
    directory = Path(tempfile.mkdtemp(prefix="pumice-bench-"))
    state_dir = directory / "state"
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PUMICE_")}
    # By this variable the processes are found whose memory and CPU time are counted.
    environment["PUMICE_STATE_DIR"] = str(state_dir)
    config = directory / "bench.toml"
    config.write_text(
        tomli_w.dumps(
            {
                "backends": _backends(backend, exports=exports),
                "quotas": dict.fromkeys(_QUOTAS, -1),
            }
        ),
        encoding="utf-8",
    )
    keep = True
    try:
        up = ["up", "--detach", "--state-dir", str(state_dir), "--config", str(config), "--port", str(_free_port())]
        done = _pumice(up, environment)
        if done.returncode != 0:
            raise InstanceError(f"`pumice up` failed with {done.returncode}:\n{done.stderr or done.stdout}")
        keep = False
        endpoint, token = identity.sign_in(identity.cloud_of([state_dir / "clouds.yaml"], None))
        yield Target(
            label=f"Pumice, {backend}",
            client=Client(endpoint, token),
            find=processes.with_variable("PUMICE_STATE_DIR", str(state_dir)),
            files=state_dir / "pools" / backend / "volumes" if backend == "reflink" else None,
        )
    finally:
        down = _pumice(["down", "--state-dir", str(state_dir)], environment)
        pools = [state_dir / "pools" / name for name in (backend, REMOTE)]
        for pool in pools:
            if pool.is_mount():
                subprocess.run(["umount", str(pool)], check=False)
        if keep or down.returncode != 0 or any(pool.is_mount() for pool in pools):
            print(f"bench: {directory} is left to look at {down.stderr.strip()}", file=sys.stderr)
        else:
            shutil.rmtree(directory, ignore_errors=True)


def _backends(backend: str, *, exports: bool) -> dict[str, dict[str, object]]:
    of_driver: dict[str, object] = {"driver": backend, "options": _OPTIONS[backend]}
    if not exports:
        return {backend: of_driver}
    by_tcp = {"exports": ["nbd"], "export_options": {"nbd": {"transport": "tcp"}}}
    return {backend: of_driver | {"exports": ["local", "nbd", "iscsi"]}, REMOTE: of_driver | by_tcp}


def _pumice(arguments: list[str], environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    command = [str(Path(sys.executable).with_name("pumice")), *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
