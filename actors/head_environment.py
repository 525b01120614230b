"""What the head of an instance is started with, beyond what every node is (`actors.node_environment`): where its memory
lies, how it sees that others live, Serve and HAProxy. Why each is there stands beside it. No Ray here.
"""

from __future__ import annotations

import re
from pathlib import Path

from actors import node_environment
from actors.instance import Instance
from actors.node_environment import GCS, METRICS, token_path
from cluster.settings import Settings, is_unspecified
from cluster.storage_network.choosing import choose_here
from cluster.storage_network.chosen import Chosen

LOOPBACK = "127.0.0.1"
# Every answer of the API has the id of its request; a 404 without one is of Serve, which has no application yet.
_NOT_OURS = "http-after-response set-status 503 if { status 404 } !{ res.hdr(x-openstack-request-id) -m found }"
# Ports, by their place in the instance's block, behind those that every node has.
DASHBOARD, HAPROXY_METRICS, HAPROXY_STATS, FALLBACK_PROXY, DASHBOARD_METRICS = range(METRICS + 1, METRICS + 6)


def ray_address(settings: Settings, instance: Instance) -> str:
    """Where the head answers."""
    return f"{settings.cluster_address or LOOPBACK}:{instance.port(GCS)}"


def jobs_url(settings: Settings, instance: Instance) -> str | None:
    """Where the head takes jobs, and shows its dashboard, if it does; no trailing slash."""
    return f"http://{LOOPBACK}:{instance.port(DASHBOARD)}" if settings.jobs or settings.dashboard else None


def head_labels(settings: Settings) -> dict[str, str]:
    """The labels of the head's own node, those of its storage network included once that is chosen."""
    network = Chosen.read(settings.state_dir)
    more = {**settings.labels, **(network.labels if network is not None else {})}
    return node_environment.labels(settings.host_name, settings.availability_zone, more)


def choose_network(settings: Settings) -> Chosen:
    """The storage network of the head's own node. Blocking; raises SettingsError, OSError."""
    return choose_here(settings.storage_network, settings.labels, settings.cluster_address or LOOPBACK)


def environment(settings: Settings, instance: Instance) -> dict[str, str]:
    """The environment of every process of the instance: the caller's, less what would mislead Ray, plus ours."""
    ours = {
        # The head's memory survives its process: workers on other nodes go on and register again.
        "RAY_gcs_storage": "rocksdb",
        "RAY_gcs_storage_path": str(instance.state_dir / "gcs"),
        # A dead raylet is noticed in 2 s, a silent one in 8 s. Shorter ones take a starved machine for a dead one.
        "RAY_health_check_initial_delay_ms": "0",
        "RAY_health_check_period_ms": "500",
        "RAY_health_check_timeout_ms": "1500",
        "RAY_health_check_failure_threshold": "4",
        # One fixed port for all heads of a machine otherwise.
        "DASHBOARD_METRIC_PORT": str(instance.port(DASHBOARD_METRICS)),
        **_serve(instance),
    }
    if not settings.dashboard:
        ours["RAY_enable_metrics_collection"] = "0"
    if settings.cluster_address is None:
        # Ray binds to all interfaces unless its node's address is 127.0.0.1, and resolves that one away unless it
        # believes that there is no cluster. The variable's name is historical: it has this effect on Linux as well.
        ours["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
    return node_environment.environment(instance, token_path(instance.state_dir)) | ours


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
        # On a busy machine a proxy that is being made is no failure; killed after five seconds it would never be done.
        "RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S": "20",
        # A replica that does not answer its health check does not answer a request for its orderly end either.
        "RAY_SERVE_FORCE_STOP_UNHEALTHY_REPLICAS": "1",
        "RAY_SERVE_FALLBACK_PROXY_HTTP_PORT": str(instance.port(FALLBACK_PROXY)),
        "RAY_SERVE_DIRECT_INGRESS_MIN_HTTP_PORT": str(low),
        "RAY_SERVE_DIRECT_INGRESS_MAX_HTTP_PORT": str(high),
    }


def head_arguments(settings: Settings, instance: Instance) -> list[str]:
    """What follows `ray start --head`. Not `--block`: a process of 90 MB that would take everything down when the GCS
    dies, where starting the GCS again is enough."""
    arguments = {
        "port": instance.port(GCS),
        "node-ip-address": settings.cluster_address or LOOPBACK,
        "dashboard-port": instance.port(DASHBOARD),
        "include-dashboard": str(settings.dashboard).lower(),
        **node_environment.arguments(
            instance, head_labels(settings), settings.object_store_bytes, shows_output=settings.jobs
        ),
    }
    return [f"--{key}={value}" for key, value in arguments.items()]


def haproxy_wrapper(state_dir: Path) -> Path:
    """The program that Ray starts in place of HAProxy."""
    return state_dir / "run" / "haproxy"


def wrapper_script(settings: Settings, instance: Instance, haproxy: str) -> str:
    """A shell script that narrows two ports to loopback, which Ray opens to all interfaces, opens the API's on the
    address that was asked for, and runs `haproxy`.

    For Ray the API is on loopback: its replicas would listen where the ingress does, but HAProxy looks for them on
    loopback, and so a request to any other address would find none of them.
    """
    ports = f"{instance.port(HAPROXY_METRICS)}|{instance.port(HAPROXY_STATS)}"
    api = f"{LOOPBACK}:{settings.port}"
    return f"""#!/bin/sh
# Made by `pumice up`. Ray binds HAProxy's metrics and statistics to all interfaces, which nobody but this host needs,
# and the API to loopback. Until it knows the API's replicas it says 404, from which a client would conclude that its
# volume is gone.
set -e
before=
for argument; do
  if [ "$before" = -f ]; then
    grep -qF 'set-status 503 if' "$argument" ||  # it has passed here before
    sed -i -E -e 's/^( *bind )[*]?:({ports})$/\\1{LOOPBACK}:\\2/' \\
      -e 's/^( *bind ){re.escape(api)}$/{_binds(settings)}\\n    {_NOT_OURS}/' "$argument"
  fi
  before=$argument
done
exec '{haproxy}' "$@"
"""


def _binds(settings: Settings) -> str:
    """What takes the place of HAProxy's `bind` line for the API, as sed writes it; not the same line again, or a file
    that passes twice would be changed twice."""
    listen, port = settings.listen, settings.port
    if is_unspecified(listen):
        return f"\\1{'[::]' if ':' in listen else '*'}:{port}"
    places = [f"{LOOPBACK}:{port}"]
    if listen not in (LOOPBACK, "localhost"):
        places.append(f"{f'[{listen}]' if ':' in listen else listen}:{port}")
    return "\\1" + ",".join(places)
