"""The table of what is mounted, as this process sees it (proc_pid_mountinfo(5))."""

from __future__ import annotations

import re
from pathlib import Path


def read() -> str:
    """The table of this process, a line for each mount, the latest last."""
    return Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="surrogateescape")


def places(table: str) -> list[tuple[Path, str]]:
    """Of each line of the table: where it is mounted, and what: a device, or what a file system calls itself."""
    found = []
    for line in table.splitlines():
        mount, _, rest = line.partition(" - ")
        found.append((Path(_unescaped(mount.split(" ")[4])), _unescaped(rest.split(" ")[1])))
    return found


def _unescaped(text: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), text)
