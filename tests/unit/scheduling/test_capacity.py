"""The maths of room."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.scheduling.capacity import Gib, factors, over_subscription_ratio, shortage, virtual_free_gib
from cluster.scheduling.pool_state import PoolState

POOL = PoolState(host="h@b#p", backend_name="b", availability_zone="nova", total_gib=100.0, free_gib=60.0)
THIN = replace(POOL, thin_support=True, max_over_subscription_ratio=2.0)


@pytest.mark.parametrize(
    ("pool", "thin", "room"),
    [
        # Thick: the lesser of what is free and what is not promised, less the reserve.
        (POOL, False, 60),
        (replace(POOL, provisioned_gib=70), False, 30),
        (replace(POOL, reserved_percentage=10, provisioned_gib=70), False, 20),
        (replace(POOL, total_gib=99.0, reserved_percentage=10, provisioned_gib=70), False, 20),
        # Thin asked of a pool that is not.
        (POOL, True, 60),
        # Thin: what is free does not count.
        (THIN, True, 200),
        (replace(THIN, provisioned_gib=150, free_gib=1.0), True, 50),
        (replace(THIN, provisioned_gib=150, reserved_percentage=10), True, 30),
        (replace(THIN, provisioned_gib=250), True, -50),
        # A thick volume on a thin pool.
        (THIN, False, 60),
        # Not numbers.
        (replace(THIN, free_gib="unknown"), True, None),
        (replace(THIN, total_gib="infinite"), True, None),
        (replace(THIN, free_gib=None), False, None),
    ],
)
def test_room(pool: PoolState, thin: bool, room: float | None) -> None:
    assert virtual_free_gib(pool, thin=thin) == room
    assert (pool.room_thin if thin else pool.room_thick) == room


@pytest.mark.parametrize(
    ("pool", "ratio"),
    [
        (THIN, 2.0),
        (POOL, 1.0),
        (replace(THIN, free_gib="infinite"), 1.0),
        (replace(THIN, max_over_subscription_ratio="auto"), 20.0),
        # 1 + 82 / (100 - 60 + 1)
        (replace(THIN, max_over_subscription_ratio="auto", provisioned_gib=82), 3.0),
        (replace(THIN, max_over_subscription_ratio="auto", provisioned_gib=5, free_gib=101.0), 6.0),
    ],
)
def test_over_subscription(pool: PoolState, ratio: float) -> None:
    assert over_subscription_ratio(pool) == ratio


@pytest.mark.parametrize(
    ("pool", "size", "fits"),
    [
        (POOL, 60, True),
        (POOL, 61, False),
        (THIN, 200, True),
        (THIN, 201, False),
        (replace(THIN, max_over_subscription_ratio=1.0), 100, True),
        (replace(THIN, max_over_subscription_ratio=0.5), 1, False),
        (replace(POOL, free_gib="infinite"), 10**9, True),
        (replace(POOL, free_gib="unknown", total_gib="unknown", reserved_percentage=5), 10**9, True),
        (replace(POOL, total_gib="infinite"), 10**9, True),
        (replace(POOL, total_gib="infinite", reserved_percentage=1), 1, False),
        (replace(POOL, total_gib=0.0), 1, False),
        (replace(POOL, free_gib=None), 1, False),
        # Nothing asked fits anywhere (manage).
        (replace(POOL, free_gib=None), 0, True),
        (replace(POOL, total_gib=0.0), 0, True),
    ],
)
def test_fit(pool: PoolState, size: int, fits: bool) -> None:
    assert (shortage(pool, size, thin=True) is None) is fits


def test_a_shortage_tells_the_numbers() -> None:
    assert shortage(replace(POOL, reserved_percentage=10, provisioned_gib=70), 25, thin=True) == (
        "25 GiB asked, 20 GiB thick room left (100 GiB total, 10 GiB reserved, 70 GiB provisioned, 60 GiB free)"
    )
    assert shortage(replace(THIN, provisioned_gib=250), 25, thin=True) == (
        "25 GiB asked, 0 GiB thin room left (100 GiB total, 0 GiB reserved, 250 GiB provisioned, over-subscription 2)"
    )


def test_factors() -> None:
    thin = factors(replace(THIN, provisioned_gib=45, reserved_percentage=10), thin=True)
    assert thin is not None
    assert (thin.reserved_gib, thin.available_gib, thin.virtual_free_gib) == (10, 180, 135)
    assert (thin.free_percent, thin.provisioned_ratio, thin.thin) == (75, 0.25, True)
    assert factors(replace(THIN, free_gib="unknown"), thin=True) is None
    empty = factors(replace(THIN, total_gib=0.0), thin=False)
    assert empty is not None
    assert (empty.free_percent, empty.provisioned_ratio) == (0, 0)


@given(
    total=st.one_of(st.floats(-10, 1000), st.sampled_from(["infinite", "unknown"])),
    free=st.one_of(st.none(), st.floats(0, 1000), st.sampled_from(["infinite", "unknown"])),
    provisioned=st.integers(0, 5000),
    reserved=st.integers(0, 100),
    ratio=st.floats(0, 20),
    thin=st.booleans(),
    support=st.booleans(),
    size=st.integers(0, 1000),
)
def test_shortage_agrees_with_the_rule_as_cinder_states_it(
    total: Gib, free: Gib | None, provisioned: int, reserved: int, ratio: float, thin: bool, support: bool, size: int
) -> None:
    pool = PoolState(
        host="h@b#p",
        backend_name="b",
        availability_zone="nova",
        total_gib=total,
        free_gib=free,
        provisioned_gib=provisioned,
        reserved_percentage=reserved,
        max_over_subscription_ratio=ratio,
        thin_support=support,
    )

    def fits() -> bool:
        if size == 0:
            return True
        if free is None:
            return False
        if isinstance(free, str):
            return True
        if isinstance(total, str):
            return reserved == 0
        if total <= 0:
            return False
        available = total - math.floor(total * reserved / 100)
        if not (thin and support):
            return min(free, available - provisioned) >= size
        if ratio < 1 or available * ratio <= 0:
            return False
        return (provisioned + size) / (available * ratio) <= ratio and available * ratio - provisioned >= size

    assert (shortage(pool, size, thin=thin) is None) is fits()
