"""The decision itself: filters leave pools out, weighers rank the rest, one is taken. Pure: holds no state.

A decision over 1,000 pools is to stay within 5 ms, so nothing is parsed or built per pool that can be done once.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from cluster.scheduling.errors import SchedulingError
from cluster.scheduling.filters import FILTERS, Filter
from cluster.scheduling.host_name import covers
from cluster.scheduling.pool_state import PoolState
from cluster.scheduling.request import PlacementRequest
from cluster.scheduling.settings import FilterName, Pick, SchedulingSettings, WeigherSettings
from cluster.scheduling.weighers import Weighing, Weights, weigh

# What leaves out the pools of a service that is down or disabled; Cinder does it before any filter.
SERVICE_STATE: Final = "ServiceState"
_DOWN: Final = "its service is down"
_DISABLED: Final = "its service is disabled"
_SUMMARY_LENGTH: Final = 255
_DETAIL_LINES: Final = 50


@dataclass(frozen=True, slots=True)
class Rejection:
    """One pool left out: by which filter (Cinder's name, or ServiceState) and why."""

    host: str
    filter: str
    why: str


@dataclass(frozen=True, slots=True)
class Placement:
    """The pool `host` taken. `repeated`: an earlier answer given again. `rejections`: the pools that were left out."""

    host: str
    reasons: tuple[Weighing, ...] = ()
    rejections: tuple[Rejection, ...] = ()
    repeated: bool = False


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why no pool of the `considered` ones can take the volume."""

    volume_id: str
    asked_gib: int
    considered: int
    rejections: tuple[Rejection, ...]
    required_host: str | None = None

    @property
    def summary(self) -> str:
        """One sentence of at most 255 characters that names no host: fit for the volume's owner."""
        what = f"No pool can take volume {self.volume_id} (+{self.asked_gib} GiB): "
        if not self.considered:
            only = "the pool it has to be in is not reported" if self.required_host else "no pool is reported yet"
            return _cut(f"{what}{only}; see that its volume service runs, then try again.")
        first: dict[str, str] = {}
        for rejection in self.rejections:
            first.setdefault(rejection.filter, rejection.why)
        counts = Counter(rejection.filter for rejection in self.rejections).most_common()
        told = "; ".join(f"{count} of {self.considered} by {name} ({first[name]})" for name, count in counts)
        return _cut(f"{what}refused {told}.")

    @property
    def details(self) -> str:
        """The summary and a line for each pool left out (at most 50): names hosts, so for operators."""
        lines = [f"{rejection.host}: {rejection.filter}: {rejection.why}" for rejection in self.rejections]
        if len(lines) > _DETAIL_LINES:
            lines = [*lines[:_DETAIL_LINES], f"and {len(lines) - _DETAIL_LINES} more"]
        if self.required_host:
            lines.insert(0, f"only {self.required_host} was considered")
        return "\n".join([self.summary, *lines])


class NoPlacementError(SchedulingError):
    """No pool can take the volume; `refusal` says why. Its text is the refusal's summary."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.summary)
        self.refusal = refusal

    def __reduce__(self) -> tuple[type[NoPlacementError], tuple[Refusal]]:
        # It crosses processes: rebuilt from the refusal, not from its text.
        return type(self), (self.refusal,)


def decide(
    pools: Iterable[PoolState], request: PlacementRequest, settings: SchedulingSettings, rng: random.Random
) -> Placement | Refusal:
    """Choose a pool for `request`.

    With `required_host` only that pool (or that service's pools) is looked at, and for a new volume from a source only
    its room. Equal pools are drawn by `rng` from their sorted names, so the same seed gives the same answer.
    """
    required = request.required_host
    considered = [pool for pool in pools if required is None or covers(required, pool.host)]
    asked = [(each.name, each.why) for each in _filters(request, settings)]
    passed: list[PoolState] = []
    rejections: list[Rejection] = []
    for pool in considered:
        if not pool.service_up or not pool.service_enabled:
            rejections.append(Rejection(pool.host, SERVICE_STATE, _DISABLED if pool.service_up else _DOWN))
            continue
        for name, why_not in asked:
            why = why_not(pool, request)
            if why is not None:
                rejections.append(Rejection(pool.host, name, why))
                break
        else:
            passed.append(pool)
    if not passed:
        return Refusal(request.volume_id, request.asked_gib, len(considered), tuple(rejections), required)
    weights = weigh(passed, request, settings.weighers, rng, normalised=settings.weighers.pick is Pick.BEST)
    index = _pick(passed, weights, settings.weighers, rng)
    return Placement(passed[index].host, weights.of(index), tuple(rejections))


def _filters(request: PlacementRequest, settings: SchedulingSettings) -> list[Filter]:
    names: Sequence[FilterName] = (FilterName.CAPACITY,) if request.follows_source else settings.filters
    return [FILTERS[name] for name in names if FILTERS[name].concerns(request)]


def _pick(pools: Sequence[PoolState], weights: Weights, settings: WeigherSettings, rng: random.Random) -> int:
    totals = weights.totals
    if settings.pick is Pick.STOCHASTIC:
        # A negative sum has no share to draw by.
        shares = [max(0.0, total) for total in totals]
        return rng.choices(range(len(pools)), shares if any(shares) else None)[0]
    best = max(totals)
    tied = [index for index, total in enumerate(totals) if total == best]
    if len(tied) == 1:
        return tied[0]
    return rng.choice(sorted(tied, key=lambda index: pools[index].host))


def _cut(text: str) -> str:
    return text if len(text) <= _SUMMARY_LENGTH else text[: _SUMMARY_LENGTH - 1] + "…"
