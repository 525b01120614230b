"""What every Ray node of a cluster is started with, the head and those that join it: variables, arguments, labels.
Why each is there stands beside it.

No Ray here. `start_hook` runs inside `ray start`, which finds it through RAY_START_HOOK.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping
from functools import lru_cache
from importlib import metadata
from pathlib import Path
from typing import Any

from actors.instance import Instance
from actors.names import HOST_LABEL
from actors.processes import MARK

VERSION_LABEL = "pumice.io/version"
ZONE_LABEL = "ray.io/availability-zone"
# Ports, by their place in the instance's block. The head has some more.
GCS, NODE_MANAGER, OBJECT_MANAGER, RUNTIME_ENV, AGENT_GRPC, AGENT_HTTP, METRICS = range(7)


def token_path(state_dir: Path) -> Path:
    """Where the secret is that admits to the cluster."""
    return state_dir / "secrets" / "ray.token"


@lru_cache(maxsize=1)
def version_label() -> str:
    """This installation's version as the value of a label (letters, digits, `-`, `_`, `.`)."""
    return re.sub(r"[^A-Za-z0-9_.-]", "-", metadata.version("pumice"))


def labels(host_name: str, zone: str | None, more: Mapping[str, str]) -> dict[str, str]:
    """All labels of a node. `zone` None: it has none of its own."""
    ours = {HOST_LABEL: host_name, VERSION_LABEL: version_label()}
    return {**more, **ours, **({ZONE_LABEL: zone} if zone is not None else {})}


def environment(instance: Instance, token: Path) -> dict[str, str]:
    """The environment of every process of the instance: the caller's, less what would mislead Ray, plus ours. Volume
    actors find their node's directory in it (PUMICE_STATE_DIR)."""
    kept = {
        key: value
        for key, value in os.environ.items()
        # Settings may hold secrets, and come from the file anyway; the rest would lead Ray to another cluster.
        if not key.startswith(("PUMICE_", "RAY_ADDRESS", "RAY_NAMESPACE", "RAY_AUTH", "RAY_JOB_", "RAY_RUNTIME_ENV"))
    }
    return kept | {
        # A job's command, `python train.py`, is to find the Python that has Ray and Pumice.
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), kept.get("PATH", os.defpath)]),
        "PUMICE_STATE_DIR": str(instance.state_dir),
        MARK: instance.mark,
        # Otherwise processes that rename themselves overwrite their environment, and nobody can tell whose they are.
        "SPT_NOENV": "1",
        # glibc gives every thread an arena of its own; Ray has many threads.
        "MALLOC_ARENA_MAX": "1",
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(token),
        "RAY_START_HOOK": f"{__name__}.start_hook",
        "RAY_enable_worker_prestart": "0",
        "RAY_prestart_worker_first_driver": "0",
        "RAY_enable_task_events": "0",
        "RAY_event_stats": "0",
        "RAY_DISABLE_MEMORY_MONITOR": "1",
        "RAY_memory_monitor_refresh_ms": "0",
    }


def arguments(
    instance: Instance, node_labels: Mapping[str, str], object_store_bytes: int, *, shows_output: bool
) -> dict[str, object]:
    """What every `ray start` is given, by name. `shows_output`: what tasks print reaches the programs they are of, and
    so the logs of jobs, for a process of 46 MB."""
    return {
        "node-manager-port": instance.port(NODE_MANAGER),
        "object-manager-port": instance.port(OBJECT_MANAGER),
        "runtime-env-agent-port": instance.port(RUNTIME_ENV),
        "dashboard-agent-grpc-port": instance.port(AGENT_GRPC),
        "dashboard-agent-listen-port": instance.port(AGENT_HTTP),
        "metrics-export-port": instance.port(METRICS),
        "include-log-monitor": str(shows_output).lower(),
        # 0 is "any": the kernel's ephemeral ports.
        "min-worker-port": 0,
        "max-worker-port": 0,
        # All actors of ours ask for none, but Ray starts no more workers at a time than there are CPUs: with 0 the
        # service takes nearly twice as long to come up. Idle workers it then starts none (RAY_enable_worker_prestart).
        "num-cpus": min(4, os.cpu_count() or 1),
        "object-store-memory": object_store_bytes,
        "labels": ",".join(f"{key}={value}" for key, value in node_labels.items()),
        "temp-dir": instance.ray_dir,
    }


def start_hook(params: Any, head: bool) -> None:
    """Called by `ray start` with its parameters: leave out the autoscaler and the ray:// server, 100 MB together."""
    if head:
        params.no_monitor = True
        params.ray_client_server_port = None
