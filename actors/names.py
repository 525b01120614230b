"""The names under which actors are found."""

from __future__ import annotations

CONDUCTOR = "pumice-conductor"
SCHEDULER = "pumice-scheduler"


def volume_actor(service: str) -> str:
    """The name of the actor of `host@backend`."""
    return f"pumice-volume-{service}"
