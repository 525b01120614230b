"""What has been promised: for each volume its pool and its size, so that a repeated promise is the same promise.

The scheduler's memory between two looks at the records. Sums are kept while entries change and always equal a
recount; Cinder's allocated_capacity_gb, which each process counts for itself, is derived here instead. Knows no pools.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True)
class Entry:
    """A promise: `gib` GiB at pool `host`. `unreported_gib` of it came after the pool's last report. `since` is the
    monotonic time of the promise in seconds, None once the records have shown it."""

    host: str
    gib: int
    unreported_gib: int
    since: float | None


@dataclass(frozen=True, slots=True)
class Usage:
    """What is promised at one pool: GiB in all, GiB since its last report, volumes."""

    allocated_gib: int = 0
    unreported_gib: int = 0
    volume_count: int = 0


_NOTHING = Usage()


class Ledger:
    """Promises by volume id. Times are monotonic seconds, handed in."""

    def __init__(self) -> None:
        self._entries: dict[str, Entry] = {}
        self._usage: dict[str, Usage] = {}
        # Volume ids by pool whose promise the pool's last report cannot show.
        self._unreported: dict[str, set[str]] = {}

    def entry(self, volume_id: str) -> Entry | None:
        """The promise for a volume, if there is one."""
        return self._entries.get(volume_id)

    def usage(self, host: str) -> Usage:
        """What is promised at a pool."""
        return self._usage.get(host, _NOTHING)

    def hosts(self) -> frozenset[str]:
        """The pools at which something is promised."""
        return frozenset(self._usage)

    def reserve(self, volume_id: str, host: str, gib: int, now: float) -> None:
        """Promise `gib` GiB at `host` to a volume. A repeat changes nothing; another host or size replaces the old."""
        held = self._entries.get(volume_id)
        if held is not None and held.host == host:
            self.resize(volume_id, gib, now)
            return
        self._put(volume_id, Entry(host, _size(gib), gib, now))

    def resize(self, volume_id: str, gib: int, now: float) -> None:
        """Change a volume's promise to `gib` GiB in all. Nothing happens to a volume without one."""
        held = self._entries.get(volume_id)
        if held is not None and held.gib != gib:
            unreported = max(0, held.unreported_gib + _size(gib) - held.gib)
            self._put(volume_id, Entry(held.host, gib, unreported, now))

    def release(self, volume_id: str) -> None:
        """Give a volume's promise back. Nothing happens to a volume without one."""
        self._put(volume_id, None)

    def reported(self, host: str) -> None:
        """The pool has been measured: what is promised there by now shows in its free capacity."""
        for volume_id in list(self._unreported.get(host, ())):
            self._put(volume_id, replace(self._entries[volume_id], unreported_gib=0))

    def rebuild(self, rows: Iterable[tuple[str, str, int]], now: float, grace_seconds: float) -> None:
        """Take over the records: (volume id, pool, GiB). Promises made or changed in the last `grace_seconds` win over
        them, since the records may not show them yet; older ones that no record shows are dropped."""
        entries = {volume_id: Entry(host, _size(gib), 0, None) for volume_id, host, gib in rows}
        oldest = now - grace_seconds
        entries.update(
            (one, held) for one, held in self._entries.items() if held.since is not None and held.since > oldest
        )
        self._entries, self._usage, self._unreported = {}, {}, {}
        for volume_id, entry in entries.items():
            self._put(volume_id, entry)

    def _put(self, volume_id: str, entry: Entry | None) -> None:
        held = self._entries.pop(volume_id, None)
        if held is not None:
            self._count(held, -1)
            self._unreported.get(held.host, set()).discard(volume_id)
        if entry is not None:
            self._entries[volume_id] = entry
            self._count(entry, 1)
            if entry.unreported_gib:
                self._unreported.setdefault(entry.host, set()).add(volume_id)

    def _count(self, entry: Entry, sign: int) -> None:
        old = self.usage(entry.host)
        new = Usage(
            old.allocated_gib + sign * entry.gib,
            old.unreported_gib + sign * entry.unreported_gib,
            old.volume_count + sign,
        )
        if new.volume_count:
            self._usage[entry.host] = new
        else:
            del self._usage[entry.host]


def _size(gib: int) -> int:
    if gib < 0:
        raise ValueError(f"a promise is 0 GiB or more, not {gib}")
    return gib
