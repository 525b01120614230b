"""What the benchmark makes of rates, and where it reads and writes."""

from __future__ import annotations

import itertools

import pytest

from tests.bench.transfer import VOLUME_BYTES, WORKLOADS, Transfer, Workload, _places


def test_rate_and_ratio_are_medians_of_the_rounds() -> None:
    found = Transfer("nbd unix", "fio", "4 KiB random read", "IOPS", 32, [50.0, 10.0, 30.0], [0.5, 0.2, 0.25])
    assert (found.rate, found.ratio) == (30.0, 0.25)


@pytest.mark.parametrize("workload", WORKLOADS, ids=lambda workload: workload.name)
def test_places_are_blocks_of_the_volume(workload: Workload) -> None:
    blocks = VOLUME_BYTES // workload.block_bytes
    places = list(itertools.islice(_places(workload), 2 * min(blocks, 1024)))
    assert all(place % workload.block_bytes == 0 and 0 <= place < VOLUME_BYTES for place in places)
    if workload.is_random:
        assert len(set(places)) > len(places) * 0.9
        assert places != sorted(places)
    else:
        assert places[:blocks] == [number * workload.block_bytes for number in range(blocks)]
        assert places[blocks:] == places[:blocks], "at the end it begins again"
