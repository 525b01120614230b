"""What a volume service says of itself at every heartbeat, and what it is answered: its lease.

A volume service acts under a lease, which it asks for and renews with its reports, for it has no database. Why that is
so and what the lease is good for: docs/decisions/0006-the-lease-of-a-backend.md.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from drivers.vocabulary import PoolReport


@dataclass(frozen=True)
class ServiceReport:
    """`host` is `host@backend`. `backend_up` is False while the storage cannot be opened; then `pools` is empty.
    `holder` names the process that reports and its latest opening of the storage (see `holder_name`): while it is open
    that one asks for the lease, afterwards it gives it back."""

    host: str
    availability_zone: str
    node_labels: Mapping[str, str]
    backend_up: bool
    pools: Sequence[PoolReport]
    holder: str


@dataclass(frozen=True)
class LeaseAnswer:
    """`epoch` of the lease while the one who reported has it, else None. It may act for `seconds` from the moment when
    it sent the report. `holder` is who else has the lease, if anybody."""

    epoch: int | None
    seconds: float
    holder: str | None = None


def holder_name(process: str, place: str | None, since: float) -> str:
    """The name of a holder: `process`, unlike any other's; the place that its driver can prove to hold alone
    (`drivers.protocols.Holds`), if it can; `since` when it is open (seconds of the kernel's clock). No part of it has
    a space."""
    return f"{process} {place or '-'} {since:020.6f}"


def has_replaced(new: str, old: str) -> bool:
    """Whether `new` by its name proves that `old` holds the storage no more: it holds the same place, or is the same
    process, since later. (A report that was long under way shows an earlier time, and proves nothing.)"""
    process, place, since = new.split(" ")
    old_process, old_place, old_since = old.split(" ")
    return since > old_since and (process == old_process or place == old_place != "-")
