"""Figures from readings: percentiles and rates. Knows nothing of what was measured.

Percentiles are by nearest rank: each is a reading that was made, none is interpolated.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Spread:
    """How readings lie, in their own unit."""

    count: int
    least: float
    p50: float
    p95: float
    p99: float
    most: float


def percentile(readings: Sequence[float], share: float) -> float:
    """The least reading that `share` (above 0, at most 1) of all readings do not exceed. Raises ValueError."""
    if not readings:
        raise ValueError("there is no percentile of no readings")
    if not 0 < share <= 1:
        raise ValueError(f"a share is above 0 and at most 1, not {share}")
    # 0.95 * 20 is a hair above 19 in binary; the rounding keeps it 19.
    rank = math.ceil(round(share * len(readings), 9))
    return sorted(readings)[rank - 1]


def spread_of(readings: Sequence[float]) -> Spread | None:
    """Their spread; None when there are none."""
    if not readings:
        return None
    return Spread(
        count=len(readings),
        least=min(readings),
        p50=percentile(readings, 0.50),
        p95=percentile(readings, 0.95),
        p99=percentile(readings, 0.99),
        most=max(readings),
    )


def per_second(count: int, seconds: float) -> float | None:
    """The rate; None when nothing happened or no time passed."""
    return count / seconds if count > 0 and seconds > 0 else None


def milliseconds_each(seconds: float, count: int) -> float | None:
    """What one of `count` operations took of `seconds`, in ms; None when there were none."""
    return 1000 * seconds / count if count > 0 else None
