"""What a Ray node of an instance is started with: variables and arguments. Why each is there stands beside it.

No Ray here. `start_hook` runs inside `ray start`, which finds it through RAY_START_HOOK.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from actors.instance import Instance
from actors.names import HOST_LABEL
from actors.processes import MARK
from cluster.settings import Settings, is_loopback

ZONE_LABEL = "ray.io/availability-zone"
# Ports, by their place in the instance's block.
GCS, NODE_MANAGER, OBJECT_MANAGER, RUNTIME_ENV, AGENT_GRPC, AGENT_HTTP, METRICS, DASHBOARD = range(8)
HAPROXY_METRICS, HAPROXY_STATS, FALLBACK_PROXY = range(8, 11)


def ray_address(settings: Settings, instance: Instance) -> str:
    """Where the head answers."""
    return f"{_node_ip(settings) or '127.0.0.1'}:{instance.port(GCS)}"


def token_path(state_dir: Path) -> Path:
    """Where the secret is that admits to the cluster."""
    return state_dir / "secrets" / "ray.token"


def environment(settings: Settings, instance: Instance) -> dict[str, str]:
    """The environment of every process of the instance: the caller's, less what would mislead Ray, plus ours."""
    kept = {
        key: value
        for key, value in os.environ.items()
        # Settings may hold secrets, and come from the file anyway; the rest would lead Ray to another cluster.
        if not key.startswith(("PUMICE_", "RAY_ADDRESS", "RAY_NAMESPACE", "RAY_AUTH", "RAY_JOB_", "RAY_RUNTIME_ENV"))
    }
    ours = {
        "PUMICE_STATE_DIR": str(instance.state_dir),
        MARK: instance.mark,
        # Otherwise processes that rename themselves overwrite their environment, and nobody can tell whose they are.
        "SPT_NOENV": "1",
        # glibc gives every thread an arena of its own; Ray has many threads.
        "MALLOC_ARENA_MAX": "1",
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(token_path(instance.state_dir)),
        "RAY_START_HOOK": f"{__name__}.start_hook",
        # The head's memory survives its process: workers on other nodes go on and register again.
        "RAY_gcs_storage": "rocksdb",
        "RAY_gcs_storage_path": str(instance.state_dir / "gcs"),
        # A dead raylet is noticed in 2 s, a silent one in 8 s. Shorter ones take a starved machine for a dead one.
        "RAY_health_check_initial_delay_ms": "0",
        "RAY_health_check_period_ms": "500",
        "RAY_health_check_timeout_ms": "1500",
        "RAY_health_check_failure_threshold": "4",
        "RAY_enable_worker_prestart": "0",
        "RAY_prestart_worker_first_driver": "0",
        "RAY_enable_task_events": "0",
        "RAY_event_stats": "0",
        "RAY_DISABLE_MEMORY_MONITOR": "1",
        "RAY_memory_monitor_refresh_ms": "0",
        **_serve(instance),
    }
    if not settings.dashboard:
        ours["RAY_enable_metrics_collection"] = "0"
    if is_loopback(settings.listen):
        # Ray binds to all interfaces unless its node's address is 127.0.0.1, and resolves that one away unless it
        # believes that there is no cluster. The variable's name is historical: it has this effect on Linux as well.
        ours["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
    return kept | ours


def _serve(instance: Instance) -> dict[str, str]:
    haproxy = instance.haproxy_dir
    low, high = instance.replica_ports
    return {
        "RAY_SERVE_ENABLE_HA_PROXY": "1",
        "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1",
        "RAY_SERVE_HAPROXY_BINARY_PATH": str(haproxy_wrapper(instance.state_dir)),
        "RAY_SERVE_HAPROXY_NBTHREAD": "1",
        "RAY_SERVE_HAPROXY_CONFIG_FILE_LOC": str(haproxy / "c"),
        "RAY_SERVE_HAPROXY_SOCKET_PATH": str(haproxy / "a"),
        "RAY_SERVE_HAPROXY_SERVER_STATE_BASE": str(haproxy),
        "RAY_SERVE_HAPROXY_SERVER_STATE_FILE": str(haproxy / "s"),
        "RAY_SERVE_HAPROXY_METRICS_SOCKET_PATH": str(haproxy / "m"),
        "RAY_SERVE_HAPROXY_METRICS_PORT": str(instance.port(HAPROXY_METRICS)),
        "RAY_SERVE_HAPROXY_STATS_PORT": str(instance.port(HAPROXY_STATS)),
        # A dead replica is out of the ring after two checks, one second at most; the default is ten.
        "RAY_SERVE_HAPROXY_HEALTH_CHECK_INTER": "500ms",
        "RAY_SERVE_HAPROXY_HEALTH_CHECK_FALL": "2",
        "RAY_SERVE_HAPROXY_HEALTH_CHECK_RISE": "1",
        "RAY_SERVE_HAPROXY_HARD_STOP_AFTER_S": "60",
        "RAY_SERVE_PROXY_HEALTH_CHECK_PERIOD_S": "1",
        "RAY_SERVE_PROXY_HEALTH_CHECK_TIMEOUT_S": "2",
        "RAY_SERVE_FALLBACK_PROXY_HTTP_PORT": str(instance.port(FALLBACK_PROXY)),
        "RAY_SERVE_DIRECT_INGRESS_MIN_HTTP_PORT": str(low),
        "RAY_SERVE_DIRECT_INGRESS_MAX_HTTP_PORT": str(high),
    }


def head_arguments(settings: Settings, instance: Instance) -> list[str]:
    """What follows `ray start --head`. Not `--block`: a process of 90 MB that would take everything down when the GCS
    dies, where starting the GCS again is enough."""
    labels = f"{HOST_LABEL}={settings.host_name},{ZONE_LABEL}={settings.availability_zone}"
    arguments = {
        "port": instance.port(GCS),
        "node-manager-port": instance.port(NODE_MANAGER),
        "object-manager-port": instance.port(OBJECT_MANAGER),
        "runtime-env-agent-port": instance.port(RUNTIME_ENV),
        "dashboard-agent-grpc-port": instance.port(AGENT_GRPC),
        "dashboard-agent-listen-port": instance.port(AGENT_HTTP),
        "metrics-export-port": instance.port(METRICS),
        "dashboard-port": instance.port(DASHBOARD),
        "include-dashboard": str(settings.dashboard).lower(),
        "include-log-monitor": "false",
        # 0 is "any": the kernel's ephemeral ports.
        "min-worker-port": 0,
        "max-worker-port": 0,
        # All actors of ours ask for none, but Ray starts no more workers at a time than there are CPUs: with 0 the
        # service takes nearly twice as long to come up. Idle workers it then starts none (RAY_enable_worker_prestart).
        "num-cpus": min(4, os.cpu_count() or 1),
        "object-store-memory": settings.object_store_bytes,
        "labels": labels,
        "temp-dir": instance.ray_dir,
    }
    if (ip := _node_ip(settings)) is not None:
        arguments["node-ip-address"] = ip
    return [f"--{key}={value}" for key, value in arguments.items()]


def start_hook(params: Any, head: bool) -> None:
    """Called by `ray start` with its parameters: leave out the autoscaler and the ray:// server, 100 MB together."""
    if head:
        params.no_monitor = True
        params.ray_client_server_port = None


def haproxy_wrapper(state_dir: Path) -> Path:
    """The program that Ray starts in place of HAProxy."""
    return state_dir / "run" / "haproxy"


def wrapper_script(instance: Instance, haproxy: str) -> str:
    """A shell script that narrows two ports to loopback, which Ray opens to all interfaces, and runs `haproxy`."""
    ports = f"{instance.port(HAPROXY_METRICS)}|{instance.port(HAPROXY_STATS)}"
    return f"""#!/bin/sh
# Made by `pumice up`. Ray binds HAProxy's metrics and statistics to all interfaces; nobody but this host needs them.
set -e
before=
for argument; do
  if [ "$before" = -f ]; then
    sed -i -E 's/^( *bind )[*]?:({ports})$/\\1127.0.0.1:\\2/' "$argument"
  fi
  before=$argument
done
exec '{haproxy}' "$@"
"""


def _node_ip(settings: Settings) -> str | None:
    if is_loopback(settings.listen):
        return "127.0.0.1"
    return None if settings.listen in ("0.0.0.0", "::") else settings.listen  # noqa: S104
