"""Cinder's opening words for refusals about volumes and snapshots, so that they read the same wherever they arise."""

from __future__ import annotations

from cluster.errors import InvalidInputError, InvalidStateError


def invalid_volume(reason: str) -> InvalidStateError:
    """The volume is in no state for this."""
    return InvalidStateError(f"Invalid volume: {reason}")


def invalid_snapshot(reason: str) -> InvalidStateError:
    """The snapshot is in no state for this."""
    return InvalidStateError(f"Invalid snapshot: {reason}")


def invalid_input(reason: str) -> InvalidInputError:
    """A value of the request can't be right."""
    return InvalidInputError(f"Invalid input received: {reason}")
