"""What is to be said after a status reset, pure: the row and what the storage holds in, sentences out.

Knows no SQL and no backend.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cluster.messages.catalogue import Detail, Level
from cluster.reconcile.comparing import TRANSITIONAL
from cluster.volumes.records import AttachStatus, VolumeStatus
from drivers.vocabulary import GIB, ObjectKind

_STATES = {"status": "status", "attach_status": "attach status", "migration_status": "migration status"}


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the user is told. `reason` is sentences."""

    detail: Detail
    level: Level
    reason: str


def opening(kind: ObjectKind, said: Mapping[str, str | None], row: Mapping[str, Any]) -> str:
    """What the administrator did."""
    states = [f"{name} to {said[key]}" for key, name in _STATES.items() if said.get(key)]
    sentence = f"An administrator set the {' and the '.join(states)} of {kind} {row['id']}."
    if said.get("status") and said["status"] != row["status"]:
        sentence += f" Its status is {row['status']} by now."
    return sentence


def working(kind: ObjectKind, said: Mapping[str, str | None], row: Mapping[str, Any], doing: str) -> Verdict:
    """An operation of the kind `doing` is live: its end, not the reset, says what is true."""
    sentence = f"{doing} goes on regardless, and will write the state in which it ends."
    return Verdict(Detail.WORK_GOES_ON, Level.WARNING, f"{opening(kind, said, row)} {sentence}")


def judge(
    kind: ObjectKind, said: Mapping[str, str | None], row: Mapping[str, Any], found: Sequence[tuple[str, int]]
) -> Verdict:
    """Nothing works on the resource. `row` has `host` (None: nowhere), `size_gib`, `status`, of a volume
    `attach_status`; `found` is where its backend has objects of its id: `host@backend#pool` and bytes."""
    detail, level, storage = _storage(kind, row, found)
    remarks = list(_remarks(kind, row))
    if remarks and level is Level.INFO:
        level = Level.WARNING
    return Verdict(detail, level, " ".join((opening(kind, said, row), storage, *remarks)))


def _storage(kind: ObjectKind, row: Mapping[str, Any], found: Sequence[tuple[str, int]]) -> tuple[Detail, Level, str]:
    host, wrong = row["host"], row["status"].startswith("error")
    if host is None:
        sentence = "It is on no backend and holds no data; delete it."
        return (
            (Detail.STORAGE_AGREES, Level.INFO, sentence) if wrong else (Detail.STORAGE_DIFFERS, Level.ERROR, sentence)
        )
    sizes = [size_bytes for place, size_bytes in found if place == host]
    if not sizes:
        elsewhere = sorted(place for place, _size_bytes in found)
        todo = "Delete it" if wrong else "Set it to error or delete it"
        sentence = f"{host} holds no such {kind}: its data cannot be read. {todo}."
        if elsewhere:
            sentence = (
                f"{host} holds no such {kind}, but there is one in {', '.join(elsewhere)}: ask an operator to look."
            )
        return Detail.STORAGE_DIFFERS, Level.ERROR, sentence
    there = f"Its data is in {host}, {sizes[0] / GIB:g} GiB"
    if sizes[0] == row["size_gib"] * GIB:
        advice = " Set it to available to use it." if wrong else ""
        return Detail.STORAGE_AGREES, Level.INFO, f"{there}, as its record says.{advice}"
    if sizes[0] > row["size_gib"] * GIB:
        advice = "extend it to mend the record" if kind is ObjectKind.VOLUME else "ask an operator to look"
        return Detail.STORAGE_DIFFERS, Level.WARNING, f"{there}; its record says {row['size_gib']} GiB: {advice}."
    sentence = f"{there} only; its record says {row['size_gib']} GiB. Do not use it before an operator has looked."
    return Detail.STORAGE_DIFFERS, Level.ERROR, sentence


def _remarks(kind: ObjectKind, row: Mapping[str, Any]) -> Iterator[str]:
    """What the states say against each other."""
    status = row["status"]
    if status in TRANSITIONAL[kind]:
        yield f"Nothing works on it: {status} lasts until the next comparison with the storage."
    if kind is not ObjectKind.VOLUME:
        return
    attach_status = row["attach_status"]
    if status == VolumeStatus.AVAILABLE and attach_status == AttachStatus.ATTACHED:
        yield "Its attach status is attached: it cannot be deleted before that is set to detached."
    if status == VolumeStatus.IN_USE and attach_status != AttachStatus.ATTACHED:
        yield f"Its status is in-use and its attach status {attach_status}: one of them is wrong."
