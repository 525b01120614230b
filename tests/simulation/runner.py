"""Running histories, shrinking those that fail, and running many on all processors:
`python -m tests.simulation.runner SEEDS [FIRST [ONLY]]`."""

from __future__ import annotations

import multiprocessing
import os
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass, field
from typing import TypeVar

from tests.simulation.history import Event, draw, shown
from tests.simulation.invariants import broken
from tests.simulation.world import ViolationError, World

T = TypeVar("T")
PART = 10  # seeds that one process runs before it answers
_REST_SECONDS = 1500.0
_STUCK_SECONDS = 700.0  # nothing is worked on, and the longest that anything waits (a lost export, 600 s) is over
_CALM_SECONDS = 28.0  # a reconcile and a heartbeat more: what is at rest must stay so


@dataclass
class Outcome:
    """What one run or many did. `seconds` are virtual."""

    hashes: list[str] = field(default_factory=list)
    faults: Counter[str] = field(default_factory=Counter)
    operations: Counter[str] = field(default_factory=Counter)
    asked: int = 0
    seconds: float = 0.0

    def add(self, other: Outcome) -> None:
        """Count another one in."""
        self.hashes += other.hashes
        self.faults += other.faults
        self.operations += other.operations
        self.asked += other.asked
        self.seconds += other.seconds

    def __str__(self) -> str:
        def listed(counts: Counter[str]) -> str:
            return ", ".join(f"{name} {number}" for name, number in sorted(counts.items()))

        return (
            f"{len(self.hashes)} seeds, {self.seconds / 3600:.1f} virtual hours, {self.asked} requests\n"
            f"operations ({self.operations.total()}): {listed(self.operations)}\n"
            f"faults ({self.faults.total()}): {listed(self.faults)}"
        )


def play(seed: int, events: Sequence[Event], lines: list[str] | None = None) -> Outcome:
    """Run a history to its end and check everything. Raises ViolationError."""
    with World.running(seed) as world:
        world.lines = lines
        for event in events:
            if event.after:
                world.run_for(event.after)
            world.apply(event)
        world.run_for(5.0)
        return finish(world)


def finish(world: World) -> Outcome:
    """End the faults, wait until everything is at rest, and check that it stays so. Raises ViolationError."""
    world.disasters.heal()
    world.run_for(3.0)
    began = since = world.loop.time()
    before: list[str] = []
    while found := broken(world):
        now = world.loop.time()
        if found != before or world.database.rows("SELECT 1 FROM operation WHERE state = 'live'"):
            before, since = found, now
        if now > min(began + _REST_SECONDS, since + _STUCK_SECONDS):
            raise ViolationError(f"not at rest after {now - began:g} s: " + "; ".join(found[:5]))
        world.run_for(10.0)
    world.run_for(_CALM_SECONDS)
    while found := broken(world):
        if found != ["calls are under way"]:
            raise ViolationError("it was at rest, and then: " + "; ".join(found[:5]))
        world.run_for(0.5)
    operations = Counter(one.kind for one in world.model.granted)
    return Outcome([world.trace_hash], world.faults.counts, operations, world.model.asked, world.loop.time())


def run(seed: int) -> Outcome:
    """The history of a seed. Raises ViolationError with the seed, the shortest history found that fails, and how to
    run either again."""
    events = draw(seed)
    try:
        return play(seed, events)
    except Exception as error:
        smallest, reason = shrink(range(len(events)), lambda part: _failure(seed, [events[number] for number in part]))
        only = ",".join(str(number) for number in smallest)
        raise ViolationError(
            f"seed {seed} fails: {error}\n"
            f"{len(smallest)} of its {len(events)} events suffice: {reason}\n"
            f"{shown([events[number] for number in smallest])}\n"
            f"the whole again: make simulate SEEDS=1 FIRST={seed}\n"
            f"these only, with all that happens: make simulate FIRST={seed} ONLY={only}"
        ) from error


def _failure(seed: int, events: Sequence[Event]) -> str | None:
    try:
        play(seed, events)
    except Exception as error:  # a defect that shows as another error is one too
        return f"{type(error).__name__}: {error}"
    return None


def shrink(whole: Sequence[T], fails: Callable[[Sequence[T]], str | None], tries: int = 150) -> tuple[Sequence[T], str]:
    """The smallest part of a sequence found that fails, by leaving out ever smaller pieces; and why it fails."""
    smallest, reason = list(whole), fails(whole) or "it did not fail again"
    size = max(1, len(smallest) // 2)
    while size and tries > 0:
        start, shorter = 0, False
        while start < len(smallest) and tries > 0:
            rest = [*smallest[:start], *smallest[start + size :]]
            tries -= 1
            if found := fails(rest):
                smallest, reason, shorter = rest, found, True
            else:
                start += size
        if not shorter or size > len(smallest):
            size //= 2
    return smallest, reason


def run_many(first: int, number: int) -> tuple[Outcome, list[str]]:
    """The seeds from `first` on: what they did, and what is to be said of each that failed."""
    total, failures = Outcome(), []
    for seed in range(first, first + number):
        try:
            total.add(run(seed))
        except ViolationError as violation:
            failures.append(str(violation))
    return total, failures


def submit(pool: ProcessPoolExecutor, first: int, number: int) -> list[Future[tuple[Outcome, list[str]]]]:
    """`run_many` in parts of PART seeds, in their order."""
    return [
        pool.submit(run_many, start, min(PART, first + number - start)) for start in range(first, first + number, PART)
    ]


def processes() -> ProcessPoolExecutor:
    """As many as there are processors: a run never waits for anything else. They are begun anew, not forked, so that
    nothing of this process is in them."""
    return ProcessPoolExecutor(len(os.sched_getaffinity(0)), multiprocessing.get_context("spawn"))


def replay(seed: int, only: Sequence[int]) -> int:
    """Run these events of a seed's history and print all that happens; the status says whether it failed."""
    events, lines = draw(seed), list[str]()
    chosen = [events[number] for number in only]
    try:
        outcome = str(play(seed, chosen, lines))
        failed = False
    except Exception as error:  # printed below
        outcome, failed = f"seed {seed} fails: {type(error).__name__}: {error}", True
    print("\n".join(lines), shown(chosen), outcome, sep="\n")
    return int(failed)


def main(arguments: Sequence[str]) -> int:
    """How many seeds, from which on (0), and perhaps which events of that one only (`3,7,12`). Every failing seed is
    printed; the status says whether there was one."""
    number, first = int(arguments[0]), int(arguments[1]) if len(arguments) > 1 else 0
    if len(arguments) > 2:
        return replay(first, [int(one) for one in arguments[2].split(",")])
    total, failed, began = Outcome(), 0, time.perf_counter()
    with processes() as pool:
        for part in submit(pool, first, number):
            outcome, failures = part.result()
            total.add(outcome)
            failed += len(failures)
            for failure in failures:
                print(f"{failure}\n", flush=True)
    spent = time.perf_counter() - began
    print(f"{total}\n{spent:.1f} s, {number / spent:.1f} seeds a second; {failed} seeds failed")
    return min(1, failed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
