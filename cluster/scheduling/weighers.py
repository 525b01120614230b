"""The weighers: which of the pools that passed is the best one (scheduler facts §6).

Each gives every pool a raw value, higher is better; values are normalised to 0..1 and multiplied.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from cluster.scheduling.errors import ExpressionError
from cluster.scheduling.functions import work_out
from cluster.scheduling.pool_state import PoolState
from cluster.scheduling.request import PlacementRequest
from cluster.scheduling.settings import WeigherName, WeigherSettings

# What an unknown capacity is worth when small is good: the largest known one and this many times the range more.
_UNKNOWN_TIMES_RANGE: Final = 100.0
# The same when all known capacities are equal.
_UNKNOWN_OFFSET: Final = 10_000.0


@dataclass(frozen=True, slots=True)
class Occasion:
    """What pools are weighed for, and with what."""

    request: PlacementRequest
    settings: WeigherSettings
    rng: random.Random


@dataclass(frozen=True, slots=True)
class Weigher:
    """A weigher: its `multiplier` in the settings, and the raw `values` of pools, in their order."""

    name: WeigherName
    multiplier: Callable[[WeigherSettings], float]
    values: Callable[[Sequence[PoolState], Occasion], list[float]]


def room(pools: Sequence[PoolState], occasion: Occasion) -> list[float]:
    """Room left to promise, GiB. A capacity that is not a number comes last, whichever way the multiplier points."""
    found = [pool.room_thin for pool in pools] if occasion.request.thin else [pool.room_thick for pool in pools]
    known = [value for value in found if value is not None]
    if len(known) == len(found):
        return known
    unknown = -1.0
    if occasion.settings.capacity <= 0 and known:
        span = max(known) - min(known)
        unknown = max(known) + (span * _UNKNOWN_TIMES_RANGE or _UNKNOWN_OFFSET)
    return [unknown if value is None else value for value in found]


def goodness(pool: PoolState, request: PlacementRequest) -> float:
    """The pool's own goodness_function: 0..100, true counts 100; 0 without one, on failure and out of range."""
    if pool.goodness_function is None:
        return 0.0
    try:
        value = work_out(pool.goodness_function, pool, request)
    except ExpressionError:
        return 0.0
    if isinstance(value, bool):
        return 100.0 if value else 0.0
    if isinstance(value, str) or not 0 <= value <= 100:
        return 0.0
    return float(value)


WEIGHERS: Final[dict[WeigherName, Weigher]] = {
    known.name: known
    for known in (
        Weigher(WeigherName.CAPACITY, lambda settings: settings.capacity, room),
        Weigher(
            WeigherName.ALLOCATED_CAPACITY,
            lambda settings: settings.allocated_capacity,
            lambda pools, occasion: [pool.allocated_gib for pool in pools],
        ),
        Weigher(
            WeigherName.VOLUME_NUMBER,
            lambda settings: settings.volume_number,
            lambda pools, occasion: [float(pool.volume_count) for pool in pools],
        ),
        Weigher(
            WeigherName.GOODNESS,
            lambda settings: settings.goodness,
            lambda pools, occasion: [goodness(pool, occasion.request) for pool in pools],
        ),
        Weigher(
            WeigherName.CHANCE,
            lambda settings: settings.chance,
            lambda pools, occasion: [occasion.rng.random() for _ in pools],
        ),
    )
}


@dataclass(frozen=True, slots=True)
class Weighing:
    """What one weigher said of one pool: `raw` as it came, `normalised` 0..1 among the pools that passed."""

    weigher: WeigherName
    raw: float
    normalised: float
    multiplier: float


def normalise(values: Sequence[float]) -> list[float]:
    """`values` moved to 0..1 by their least and greatest; all 0 when these are equal."""
    if not values:
        return []
    least = min(values)
    span = max(values) - least
    if span == 0 or not math.isfinite(span):
        return [0.0] * len(values)
    return [(value - least) / span for value in values]


@dataclass(frozen=True, slots=True)
class Weights:
    """All weighers' values for the pools, in the pools' order. `totals` is what the choice goes by."""

    totals: list[float]
    raw: list[tuple[WeigherName, float, list[float], list[float]]]

    def of(self, index: int) -> tuple[Weighing, ...]:
        """What each weigher said of the pool at `index`."""
        return tuple(Weighing(name, raw[index], norm[index], times) for name, times, raw, norm in self.raw)


def weigh(
    pools: Sequence[PoolState],
    request: PlacementRequest,
    settings: WeigherSettings,
    rng: random.Random,
    *,
    normalised: bool = True,
) -> Weights:
    """Weigh `pools`: sums of multiplied values, normalised or (for a stochastic pick) raw."""
    totals = [0.0] * len(pools)
    occasion = Occasion(request, settings, rng)
    said = []
    for name in settings.enabled:
        weigher = WEIGHERS[name]
        times = weigher.multiplier(settings)
        if times == 0:
            continue
        raw = weigher.values(pools, occasion)
        norm = normalise(raw)
        totals = [total + times * value for total, value in zip(totals, norm if normalised else raw, strict=True)]
        said.append((name, times, raw, norm))
    return Weights(totals, said)
