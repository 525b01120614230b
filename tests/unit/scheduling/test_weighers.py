"""Weighers and their normalisation."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.scheduling.pool_state import PoolState
from cluster.scheduling.request import PlacementRequest
from cluster.scheduling.settings import WeigherName, WeigherSettings
from cluster.scheduling.weighers import goodness, normalise, weigh

ASK = PlacementRequest("11111111-1111-1111-1111-111111111111", 10)
POOL = PoolState(host="h@b#p", backend_name="b", availability_zone="z", total_gib=1000.0, free_gib=0.0)


def totals(settings: WeigherSettings, *pools: PoolState, normalised: bool = True) -> list[float]:
    return weigh(pools, ASK, settings, random.Random(1), normalised=normalised).totals


def free(*amounts: float | str) -> list[PoolState]:
    return [replace(POOL, free_gib=amount) for amount in amounts]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("multiplier", "amounts", "expected"),
    [
        (1.0, (100.0, 300.0, 200.0), [0, 1, 0.5]),
        (-1.0, (100.0, 300.0, 200.0), [0, -1, -0.5]),
        (2.0, (100.0, 300.0), [0, 2]),
        (1.0, (100.0, 100.0), [0, 0]),
        # Unknown room comes last when spreading: -1 GiB.
        (1.0, (0.0, 99.0, "unknown"), [0.01, 1, 0]),
        (1.0, (0.0, 99.0, "infinite"), [0.01, 1, 0]),
        # And last when stacking: 300 + 100 * 200.
        (-1.0, (100.0, 300.0, "infinite"), [0, -200 / 20200, -1]),
        (-1.0, (100.0, 100.0, "infinite"), [0, 0, -1]),
        (-1.0, ("unknown", "infinite"), [0, 0]),
    ],
)
def test_capacity(multiplier: float, amounts: tuple[float | str, ...], expected: list[float]) -> None:
    assert totals(WeigherSettings(capacity=multiplier), *free(*amounts)) == pytest.approx(expected)


def test_what_is_there_counts_against_a_pool() -> None:
    pools = [replace(POOL, allocated_gib=gib, volume_count=count) for gib, count in ((0, 8), (10, 4), (20, 0))]
    assert totals(WeigherSettings(enabled=(WeigherName.ALLOCATED_CAPACITY,)), *pools) == [0, -0.5, -1]
    assert totals(WeigherSettings(enabled=(WeigherName.VOLUME_NUMBER,)), *pools) == [-1, -0.5, 0]
    both = WeigherSettings(enabled=(WeigherName.ALLOCATED_CAPACITY, WeigherName.VOLUME_NUMBER), volume_number=-3.0)
    assert totals(both, *pools) == [-3, -2, -1]
    assert totals(both, *pools, normalised=False) == [-24, -22, -20]


@pytest.mark.parametrize(
    ("function", "value"),
    [
        (None, 0),
        ("50", 50),
        ("100", 100),
        ("volume.size < 20 ? 80 : 10", 80),
        ("volume.size < 20", 100),
        ("volume.size > 20", 0),
        ("101", 0),
        ("0 - 1", 0),
        ("'text'", 0),
        ("1 +", 0),
        ("extra.missing", 0),
    ],
)
def test_goodness(function: str | None, value: float) -> None:
    assert goodness(replace(POOL, goodness_function=function), ASK) == value


def test_chance_is_the_handed_in_randomness() -> None:
    settings = WeigherSettings(enabled=(WeigherName.CHANCE,))
    first, again = (totals(settings, POOL, POOL, POOL, normalised=False) for _ in range(2))
    expected = random.Random(1)
    assert first == again == [expected.random() for _ in range(3)]


def test_a_multiplier_of_nothing_turns_a_weigher_off() -> None:
    settings = WeigherSettings.of_multipliers(capacity=0.0, volume_number=-2.0)
    assert settings.enabled == (WeigherName.VOLUME_NUMBER,)
    weights = weigh([POOL], ASK, WeigherSettings(capacity=0.0), random.Random(1))
    assert weights.of(0) == ()


@given(st.lists(st.floats(-1e9, 1e9), max_size=20))
def test_normalised_values_lie_between_nothing_and_one_in_the_same_order(values: list[float]) -> None:
    found = normalise(values)
    assert len(found) == len(values)
    assert all(0 <= value <= 1 for value in found)
    by_value = [after for _, after in sorted(zip(values, found, strict=True))]
    assert by_value == sorted(found)
    if values and max(values) > min(values):
        assert (found[values.index(max(values))], found[values.index(min(values))]) == (1, 0)
