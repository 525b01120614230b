"""tgtd's list of targets, read from its text. Knows no socket."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Final

_TARGET: Final = re.compile(r"Target (\d+): (\S+)")
_SECTIONS: Final = (
    "System information",
    "I_T nexus information",
    "LUN information",
    "Account information",
    "ACL information",
)


@dataclass(slots=True)
class Target:
    """A target. `sessions` are pairs of session and connection; `lun` is what it says of LUN 1."""

    number: int
    name: str
    sessions: list[tuple[int, int]] = field(default_factory=list)
    lun: dict[str, str] = field(default_factory=dict)
    accounts: list[str] = field(default_factory=list)
    admitted: list[str] = field(default_factory=list)


def parse(text: str) -> list[Target]:
    """The targets in what tgtd shows."""
    targets: list[Target] = []
    section, parent = "", 0
    for raw in text.splitlines():
        line = raw.strip()
        if head := _TARGET.fullmatch(line):
            targets.append(Target(int(head[1]), head[2]))
        elif line.removesuffix(":") in _SECTIONS:
            section, parent = line.removesuffix(":"), 0
        elif targets and line:
            parent = _note(targets[-1], section, line, parent)
    return targets


def _note(target: Target, section: str, line: str, parent: int) -> int:
    """Note a line of a section; returns the session or the LUN that the next lines belong to."""
    key, _, value = line.partition(": ")
    if key in ("I_T nexus", "LUN"):
        return int(value)
    if section == "I_T nexus information" and key == "Connection":
        target.sessions.append((parent, int(value)))
    elif section == "LUN information" and parent == 1:
        target.lun[key] = value
    elif section == "Account information":
        target.accounts.append(line)
    elif section == "ACL information":
        target.admitted.append(line)
    return parent


def shown_size(size_bytes: int) -> str:
    """A size in bytes as tgtd shows it (print_disksize in its usr/target.c): GiB steps always differ."""
    sectors = size_bytes // 512
    return f"{(sectors - (sectors // 625 - 974)) // 1950} MB"
