"""What was written, by whom, and who had the lease at that moment: noted beside the product, by SQL triggers in the
transaction of the write itself, and by the thread that is about to touch the storage."""

from __future__ import annotations

import json
import os
import sqlite3
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# Every table that conductors write.
_TABLES = ("operation", "operation_step", "volume", "snapshot", "message", "orphan")
DATABASE = "pumice.db"


@dataclass(frozen=True)
class Effect:
    """A piece of work on an object of the storage: `arrival` counts the calls that came to this process, `epoch` is
    the call's; `holder` had the backend's lease when it began."""

    process: str
    arrival: int
    epoch: int
    holder: str


class Effects:
    """The notes of all processes of a trial, in the order of writing."""

    def __init__(self, directory: Path) -> None:
        self._path, self._directory = directory / "effects", directory
        self._descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)

    def note(self, process: str, arrival: int, epoch: int) -> None:
        """`process` is about to work on an object."""
        holder = (lease(self._directory, "backend:h@b") or ("", 0))[0].split(" ")[0]
        os.write(self._descriptor, json.dumps([process, arrival, epoch, holder]).encode() + b"\n")

    def all(self) -> list[Effect]:
        """Every note so far."""
        return [Effect(*json.loads(line)) for line in self._path.read_text().splitlines()]


def lease(directory: Path, name: str) -> tuple[str, int] | None:
    """Holder and epoch of the lease by the records, if anybody ever had it."""
    rows = _read(directory, "SELECT holder, epoch FROM lease WHERE name = ?", name)
    return (rows[0][0], rows[0][1]) if rows else None


def live_operations(directory: Path) -> int:
    """How many operations are under way."""
    return int(_read(directory, "SELECT count(*) FROM operation WHERE state = 'live'")[0][0])


def statuses(directory: Path) -> dict[str, str]:
    """Status of every volume."""
    return dict(_read(directory, "SELECT id, status FROM volume"))


def watch_writes(directory: Path) -> None:
    """From now on every write of a conductor's table is noted in it, with who made it and who had the lease. `writer()`
    is a function of each process's own connections."""
    with sqlite3.connect(directory / DATABASE) as db:
        db.create_function("writer", 0, lambda: "test")
        db.execute("CREATE TABLE written (writer TEXT, holder TEXT, what TEXT)")
        for table in _TABLES:
            for verb in ("INSERT", "UPDATE", "DELETE"):
                db.execute(
                    f"CREATE TRIGGER written_{table}_{verb} AFTER {verb} ON {table} BEGIN INSERT INTO written "
                    f"SELECT writer(), (SELECT holder FROM lease WHERE name = 'conductor'), '{verb} {table}'; END"
                )
    db.close()


def writes(directory: Path) -> list[tuple[str, str, str]]:
    """Writer, holder of the conductor's lease in that transaction, and what, of every write of a conductor."""
    return _read(directory, "SELECT writer, holder, what FROM written WHERE writer LIKE 'conductor%'")


def stale_writes(directory: Path) -> list[str]:
    """Writes of conductors that did not hold the lease."""
    return [
        f"{what} by {writer}: {holder} has the lease" for writer, holder, what in writes(directory) if writer != holder
    ]


def stale_commands(effects: list[Effect]) -> list[str]:
    """Work on the storage for a conductor of an epoch, of which the call came after one of a later epoch."""
    first: dict[tuple[str, int], int] = {}
    for one in effects:
        key = (one.process, one.epoch)
        first[key] = min(one.arrival, first.get(key, one.arrival))
    return [
        f"{one} came after epoch {epoch} at {arrival}"
        for one in effects
        for (process, epoch), arrival in first.items()
        if process == one.process and epoch > one.epoch and arrival < one.arrival
    ]


def strangers(effects: list[Effect]) -> list[str]:
    """Work on the storage by a process while another had the backend's lease."""
    return [str(one) for one in effects if one.holder != one.process]


def _read(directory: Path, statement: str, *parameters: Any) -> list[Any]:
    db = sqlite3.connect(f"file:{directory / DATABASE}?mode=ro", uri=True, timeout=10)
    try:
        return db.execute(statement, parameters).fetchall()
    finally:
        db.close()
