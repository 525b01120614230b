"""A run is pure computing: the runs of the tests go to as many processes as there are processors."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor

import pytest

from tests.simulation.runner import processes


@pytest.fixture(scope="session")
def pool() -> Iterator[ProcessPoolExecutor]:
    """The processes of all tests."""
    workers = processes()
    yield workers
    workers.shutdown(cancel_futures=True)
