"""Sequences drawn by a Hypothesis state machine against the reference model."""

from __future__ import annotations

from concurrent.futures import Future, ProcessPoolExecutor

import pytest

from tests.simulation.machine import examine
from tests.simulation.runner import Outcome

_SEEDS, _EXAMPLES = range(6), 25


@pytest.fixture(scope="module")
def examined(pool: ProcessPoolExecutor) -> dict[int, Future[Outcome]]:
    """What the examples of each seed did."""
    return {number: pool.submit(examine, number, _EXAMPLES) for number in _SEEDS}


@pytest.mark.timeout(900)  # Hypothesis may take five minutes to shrink what fails
@pytest.mark.parametrize("number", _SEEDS)
def test_whatever_hypothesis_draws_settles(number: int, examined: dict[int, Future[Outcome]]) -> None:
    assert len(examined[number].result().hashes) >= _EXAMPLES


def test_hypothesis_drew_requests_and_faults_of_every_kind(examined: dict[int, Future[Outcome]]) -> None:
    total = Outcome()
    for one in examined.values():
        total.add(one.result())
    assert {f"volume.{kind}" for kind in ("create", "extend", "delete")} <= {*total.operations}
    assert {f"snapshot.{kind}" for kind in ("create", "delete")} <= {*total.operations}
    assert {f"attachment.{what}" for what in ("reserve", "open", "complete", "end")} <= {*total.operations}
    assert total.faults["reboot"]
    assert total.faults["exports lost"]
    for what in ("kill", "pause", "twin", "cut"):
        assert all(total.faults[f"{what} {kind}"] for kind in ("conductor", "scheduler", "volume host", "api")), what
    # A driver that hangs needs a rare window to meet a call; the seeds have it (test_seeds).
    assert {"full", "duplicate", "reorder", "delay"} <= {*+total.faults}
