"""The names under which actors, and what the head keeps for those who join, are found."""

from __future__ import annotations

CONDUCTOR = "pumice-conductor"
SCHEDULER = "pumice-scheduler"
HOST_LABEL = "pumice.io/host"
STORAGE_NETWORK = "storage_network"


def volume_actor(service: str) -> str:
    """The name of the actor of `host@backend`."""
    return f"pumice-volume-{service}"


def node_actor(node_id: str) -> str:
    """The name of the actor that mounts on a node. A node that returns under a new id gets a new one."""
    return f"pumice-node-{node_id}"
