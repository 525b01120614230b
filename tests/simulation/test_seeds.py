"""Three hundred seeds; that a seed replays exactly; that a failure is shown shrunk.

`make simulate SEEDS=n` runs any number.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Sequence

import pytest

from tests.simulation.faults import WINDOWS
from tests.simulation.history import Event, draw
from tests.simulation.loop import VirtualLoop
from tests.simulation.runner import Outcome, play, run_many, shrink

_SEEDS, _PART = 300, 10
_total = Outcome()


@pytest.mark.parametrize("first", range(0, _SEEDS, _PART))
def test_whatever_fails_everything_settles_and_nothing_is_lost(first: int) -> None:
    _total.add(run_many(first, _PART))


def test_every_kind_of_fault_has_struck_and_every_operation_was_run(capsys: pytest.CaptureFixture[str]) -> None:
    if not _total.hashes:
        pytest.fail("run the whole module: this looks at what its seeds did")
    with capsys.disabled():
        print(f"\n{_total}")
    assert {"volume.create", "volume.delete", "volume.extend", "snapshot.create", "snapshot.delete"} <= {
        *_total.operations
    }
    assert {"orphan.adopt", "orphan.delete"} <= {*_total.operations}
    for fault in ("drop", "lose-reply", "delay", "duplicate", "hang", "store-before", "store-after", "full"):
        assert _total.faults[fault]
    for role in ("conductor", "scheduler", "volume host"):
        assert all(_total.faults[f"{what} {role}"] for what in ("kill", "pause", "twin", "cut"))


def test_a_pool_is_left_for_good_before_anything_is_removed_there() -> None:
    """Seed 194 of the first version: a retract that was answered late removed what had been made after it."""
    window = [Event(0.1, "window", WINDOWS.index(name), 3, 0, 40.0) for name in ("retryable-after", "duplicate")]
    for seed in range(12):
        play(seed, [*window, Event(0.3, "full", seed, seed // 2, 0, 1.0), Event(0.1, "create", 0, 0, 0)])


def test_a_seed_replays_a_run_exactly() -> None:
    for seed in (1, 8):
        first: list[str] = []
        second: list[str] = []
        assert play(seed, draw(seed), first).hashes == play(seed, draw(seed), second).hashes
        assert first == second


def test_a_seed_replays_in_another_process() -> None:
    code = "from tests.simulation.runner import run; print(run(8).hashes[0])"
    hashes = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": order},
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        for order in ("1", "2")
    }
    assert len(hashes) == 1


def test_a_history_that_fails_is_shrunk_to_what_matters() -> None:
    events = [Event(1.0, "create", number, 0, 0) for number in range(20)]

    def fails(part: Sequence[Event]) -> str | None:
        return "both" if {4, 13} <= {event.a for event in part} else None

    smallest, reason = shrink(events, fails)
    assert [event.a for event in smallest] == [4, 13]
    assert reason == "both"


def test_nothing_real_is_waited_for_and_threads_are_refused() -> None:
    loop = VirtualLoop()

    async def wait() -> float:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.Event().wait(), 86_400.0)
        with pytest.raises(AssertionError, match="no threads"):
            await asyncio.to_thread(print)
        return loop.time()

    assert loop.run_until_complete(wait()) == 86_400.0
    loop.close()
