"""The figures of the benchmark, from readings whose figures are known."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.bench.statistics import Spread, milliseconds_each, per_second, percentile, spread_of

READINGS = st.lists(st.floats(0, 1e6), min_size=1, max_size=200)
SHARES = st.floats(0.001, 1.0)


@pytest.mark.parametrize(
    ("share", "expected"),
    [(0.05, 1), (0.5, 10), (0.51, 11), (0.95, 19), (0.951, 20), (0.99, 20), (1.0, 20)],
)
def test_percentile_is_the_reading_of_nearest_rank(share: float, expected: float) -> None:
    assert percentile(range(20, 0, -1), share) == expected


def test_percentile_of_one_reading_is_that_reading() -> None:
    assert [percentile([7.5], share) for share in (0.01, 0.5, 1.0)] == [7.5, 7.5, 7.5]


@pytest.mark.parametrize("share", [0.0, -0.1, 1.01, 95])
def test_percentile_refuses_what_is_no_share(share: float) -> None:
    with pytest.raises(ValueError, match="share"):
        percentile([1.0], share)


def test_percentile_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="no readings"):
        percentile([], 0.5)


@given(READINGS, SHARES)
def test_percentile_was_read_and_enough_readings_do_not_exceed_it(readings: list[float], share: float) -> None:
    found = percentile(readings, share)
    assert found in readings
    assert sum(reading <= found for reading in readings) >= share * len(readings) - 1e-6
    assert sum(reading < found for reading in readings) < share * len(readings)


@given(READINGS)
def test_spread_is_in_order(readings: list[float]) -> None:
    spread = spread_of(readings)
    assert spread is not None
    assert spread.count == len(readings)
    assert min(readings) == spread.least <= spread.p50 <= spread.p95 <= spread.p99 <= spread.most == max(readings)


def test_spread_of_a_hundred_readings() -> None:
    readings = [float(number) for number in range(1, 101)]
    assert spread_of(readings) == Spread(count=100, least=1, p50=50, p95=95, p99=99, most=100)


def test_spread_of_nothing_is_none() -> None:
    assert spread_of([]) is None


def test_rates() -> None:
    assert per_second(30, 1.5) == 20
    assert per_second(0, 1.5) is None
    assert per_second(3, 0.0) is None


def test_time_of_each() -> None:
    assert milliseconds_each(1.5, 30) == 50
    assert milliseconds_each(1.5, 0) is None
