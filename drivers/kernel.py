"""Which running kernel this is: what is locked within one kernel says nothing of another's processes."""

from __future__ import annotations

import uuid
from functools import cache
from pathlib import Path

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


@cache
def boot_id() -> str:
    """The same for all processes of a kernel from its start to its end, and never again. Where the kernel does not say
    (no /proc), every process counts as being alone."""
    try:
        return _BOOT_ID.read_text(encoding="ascii").strip()
    except OSError:
        return str(uuid.uuid4())
