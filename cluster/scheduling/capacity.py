"""The maths of room, in GiB (scheduler facts §5). Knows numbers, not pools: anything that has them will do."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, Protocol

Gib = float | Literal["infinite", "unknown"]
OverSubscription = float | Literal["auto"]

# The ratio that "auto" starts from while nothing is provisioned.
_FIRST_AUTO_RATIO = 20.0


class Room(Protocol):
    """What is measured of a pool. `free_gib` None means that the backend did not say."""

    @property
    def total_gib(self) -> Gib: ...
    @property
    def free_gib(self) -> Gib | None: ...
    @property
    def provisioned_gib(self) -> float: ...
    @property
    def reserved_percentage(self) -> int: ...
    @property
    def max_over_subscription_ratio(self) -> OverSubscription: ...
    @property
    def thin_support(self) -> bool: ...


@dataclass(frozen=True, slots=True)
class CapacityFactors:
    """The numbers behind a decision, in GiB and per cent. `virtual_free_gib` below 0 means over-committed."""

    total_gib: float
    free_gib: float
    reserved_gib: float
    available_gib: float
    provisioned_gib: float
    virtual_free_gib: float
    free_percent: float
    provisioned_ratio: float
    over_subscription_ratio: float
    thin: bool


def over_subscription_ratio(pool: Room) -> float:
    """How many times its size the pool may promise. 1 without thin support or with a capacity that is not a number."""
    total, free = pool.total_gib, pool.free_gib
    if not pool.thin_support or isinstance(total, str) or isinstance(free, str) or free is None:
        return 1.0
    if pool.max_over_subscription_ratio != "auto":
        return pool.max_over_subscription_ratio
    if pool.provisioned_gib == 0:
        return _FIRST_AUTO_RATIO
    # A backend that reports more free than total would make the divisor 0 or less.
    return 1 + pool.provisioned_gib / (max(0.0, total - free) + 1)


def virtual_free_gib(pool: Room, *, thin: bool) -> float | None:
    """What may still be promised, thin or thick; None when the pool's capacity is not a number."""
    total, free = pool.total_gib, pool.free_gib
    if isinstance(total, str) or isinstance(free, str) or free is None:
        return None
    available = total - math.floor(total * pool.reserved_percentage / 100)
    if thin and pool.thin_support:
        return available * over_subscription_ratio(pool) - pool.provisioned_gib
    return min(free, available - pool.provisioned_gib)


def factors(pool: Room, *, thin: bool) -> CapacityFactors | None:
    """All numbers of `pool` for a thin or thick volume; None when its capacity is not a number."""
    virtual_free = virtual_free_gib(pool, thin=thin)
    total, free = pool.total_gib, pool.free_gib
    if virtual_free is None or isinstance(total, str) or isinstance(free, str) or free is None:
        return None
    thin = thin and pool.thin_support
    ratio = over_subscription_ratio(pool) if thin else 1.0
    reserved = math.floor(total * pool.reserved_percentage / 100)
    available = (total - reserved) * ratio
    return CapacityFactors(
        total_gib=total,
        free_gib=free,
        reserved_gib=reserved,
        available_gib=available,
        provisioned_gib=pool.provisioned_gib,
        virtual_free_gib=virtual_free,
        free_percent=virtual_free / available * 100 if available else 0.0,
        provisioned_ratio=pool.provisioned_gib / available if available else 0.0,
        over_subscription_ratio=ratio,
        thin=thin,
    )


def shortage(pool: Room, size_gib: float, *, thin: bool) -> str | None:
    """None when `size_gib` more GiB fit into `pool`, else a sentence with the numbers.

    Nothing asked always fits. Unknown or infinite free room always fits; unknown or infinite total room fits only
    where nothing is reserved, since the reserve is a share of it.
    """
    if size_gib == 0:
        return None
    total, free = pool.total_gib, pool.free_gib
    if free is None:
        return "the backend reports no free capacity; look at its driver"
    if isinstance(free, str):
        return None
    if isinstance(total, str):
        if pool.reserved_percentage == 0:
            return None
        return f"{pool.reserved_percentage}% of the pool is reserved, but its total capacity is {total}"
    if total <= 0:
        return f"the pool's total capacity is {total:g} GiB"
    thin = thin and pool.thin_support
    ratio = over_subscription_ratio(pool) if thin else 1.0
    if ratio < 1:
        return f"max_over_subscription_ratio is {ratio:g}, but a thin pool needs at least 1"
    reserved = math.floor(total * pool.reserved_percentage / 100)
    provisioned = pool.provisioned_gib
    # Cinder first tests (provisioned + size) / (available * ratio) <= ratio. With ratio >= 1 that follows from this.
    left = (total - reserved) * ratio - provisioned if thin else min(free, total - reserved - provisioned)
    if left >= size_gib:
        return None
    return (
        f"{size_gib:g} GiB asked, {max(0.0, left):.10g} GiB {'thin' if thin else 'thick'} room left"
        f" ({total:g} GiB total, {reserved} GiB reserved, {provisioned:g} GiB provisioned, "
        + (f"over-subscription {ratio:g})" if thin else f"{free:g} GiB free)")
    )
