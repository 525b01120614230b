"""What ends a process that acted under a lease which another has now. Knows no SQL: volume actors load it."""

from __future__ import annotations


class LeaseLostError(Exception):
    """Another process has the lease. Whoever had it has stopped all it did, and must end: what it remembers is of the
    past. Ray starts an actor anew that is still wanted; it then asks for the lease as anybody else."""
