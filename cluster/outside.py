"""What comes from outside the process and is therefore handed in: time, ids, randomness.

Everything in `cluster/` takes an `Outside`, so that a test or a simulation can stop the clock and replay ids.
"""

from __future__ import annotations

import random
import secrets
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime


def stamp(seconds: float) -> str:
    """`seconds` since the epoch as the wire writes time: naive UTC ISO-8601 with microseconds (26 characters).

    Records keep wire times in this form: it sorts as it counts, and a read hands it out without a conversion.
    """
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")


def _uuid() -> str:
    return str(uuid.uuid4())


def _secret() -> str:
    return secrets.token_hex(32)


def boot_seconds() -> float:
    """Seconds since the machine started, with those it slept: a lease must not outlast a suspended machine."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


@dataclass(frozen=True)
class Outside:
    """Clock (`seconds` since the epoch, UTC; `monotonic` seconds for spans of time), ids (lower-case UUIDs),
    randomness, and secrets (32 bytes that nobody can guess, as hexadecimal)."""

    seconds: Callable[[], float] = time.time
    monotonic: Callable[[], float] = boot_seconds
    new_id: Callable[[], str] = _uuid
    random: random.Random = field(default_factory=random.Random)
    new_secret: Callable[[], str] = field(default=_secret, repr=False)

    def now(self) -> str:
        """The present moment as a wire time."""
        return stamp(self.seconds())
