"""The leases of backends: which process may act for a `host@backend`. Written by the scheduler, as reports come in."""

from __future__ import annotations

from sqlalchemy import Connection

from cluster.journal import lease
from cluster.services.report import LeaseAnswer, ServiceReport, has_replaced

# The holder counts from before it sent its report, the records from when they are written: that alone is on the safe
# side. This covers clocks that run at different rates, by far.
_MARGIN = 1.1


def lease_name(host: str) -> str:
    """The name of the lease of `host@backend`."""
    return f"backend:{host}"


def is_others(db: Connection, report: ServiceReport, now: float) -> str | None:
    """Who has the lease, if it is another process than the one that reports (`now` in seconds since the epoch)."""
    found = lease.read(db, lease_name(report.host))
    if found is None or found.holder == report.holder or found.expires_at <= now:
        return None
    return None if has_replaced(report.holder, found.holder) else found.holder


def answer(db: Connection, report: ServiceReport, now: float, life_seconds: float) -> LeaseAnswer:
    """Give the lease to the one who reports, renew it, or take it back if its storage is closed. Nobody gets it while
    another has it, unless he has proof that the other is gone."""
    name = lease_name(report.host)
    lease.take_turn(db, name)
    other = is_others(db, report, now)
    if other is not None:
        return LeaseAnswer(None, life_seconds, other)
    if not report.backend_up:
        lease.expire(db, name, report.holder)
        return LeaseAnswer(None, life_seconds)
    return LeaseAnswer(lease.keep(db, name, report.holder, now, life_seconds * _MARGIN), life_seconds)


def expire(db: Connection, hosts: list[str], process_prefix: str) -> None:
    """End the leases of these `host@backend` which processes of such a name have. Only for one who knows them dead."""
    for host in hosts:
        lease.expire(db, lease_name(host), process_prefix)
