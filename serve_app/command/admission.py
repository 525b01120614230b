"""Whether a node may join: `python -m serve_app.command.admission HEAD HOST_NAME`, started by `pumice join`.

A process of its own, because it loads Ray, which `pumice join` can do without. Exit codes: 0 it may; 1 the head does
not answer, try again; 3 it may not. The sentence is on standard error.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

from actors import ray_port
from actors.names import HOST_LABEL, STORAGE_NETWORK
from actors.node_environment import VERSION_LABEL, version_label

AWAY, REFUSED = 1, 3
_ASK_SECONDS = 5.0
# The head needs some seconds to see that an earlier life of the same node has ended.
_EARLIER_LIFE_SECONDS = 20.0
_COMING_UP_SECONDS = 60.0


class RefusedError(Exception):
    """The node may not join; the message says why."""


def check(nodes: list[ray_port.Node], host_name: str) -> bool:
    """Whether `host_name` is free among the cluster's nodes. Raises RefusedError for a cluster that a node of this
    version must not join."""
    alive = [node for node in nodes if node.alive]
    theirs = {node.labels[VERSION_LABEL] for node in alive if VERSION_LABEL in node.labels}
    if not theirs:
        raise RefusedError("a Ray head answers there, but none of a Pumice instance; `pumice status` names the address")
    if theirs != {version_label()}:
        raise RefusedError(
            f"the cluster runs Pumice {', '.join(sorted(theirs))} and this machine has {version_label()}; "
            "install the same version here"
        )
    return all(node.labels.get(HOST_LABEL) != host_name for node in alive)


def wait(head: str, host_name: str, nodes_at: Callable[[str, float], list[ray_port.Node]]) -> None:
    """Return when the node may join. Raises RefusedError; ConnectionError and PermissionError as `nodes_at` does."""
    deadline = time.monotonic() + _EARLIER_LIFE_SECONDS
    while not check(nodes := nodes_at(head, _ASK_SECONDS), host_name):
        if time.monotonic() > deadline:
            there = next(node.address for node in nodes if node.alive and node.labels.get(HOST_LABEL) == host_name)
            raise RefusedError(f"{host_name!r} is in the cluster already, at {there}; give another --host-name")
        time.sleep(0.5)


def network(head: str, remembered_at: Callable[[str, str, float], str | None]) -> str:
    """What the instance says of storage networks; one that is coming up says it last. Raises ConnectionError and
    PermissionError as `remembered_at` does, ConnectionError when it says nothing in a while."""
    deadline = time.monotonic() + _COMING_UP_SECONDS
    while (found := remembered_at(head, STORAGE_NETWORK, _ASK_SECONDS)) is None:
        if time.monotonic() > deadline:
            raise ConnectionError("its instance does not come up; see `pumice status` there")
        time.sleep(0.5)
    return found


def main(head: str, host_name: str) -> int:
    """Say whether it may; return the exit code."""
    try:
        wait(head, host_name, ray_port.nodes_at)
        print(network(head, ray_port.remembered_at))
    except ConnectionError as error:
        print(f"no head answers at {head}: {error}", file=sys.stderr)
        return AWAY
    except PermissionError:
        print(f"the head at {head} does not take this token; copy its secrets/ray.token anew", file=sys.stderr)
        return REFUSED
    except RefusedError as error:
        print(error, file=sys.stderr)
        return REFUSED
    return 0


if __name__ == "__main__":
    raise SystemExit(main(*sys.argv[1:]))
