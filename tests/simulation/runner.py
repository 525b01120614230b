"""Running histories, shrinking those that fail, and running many: `python -m tests.simulation.runner SEEDS [FIRST]`."""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from tests.simulation.history import Event, draw, shown
from tests.simulation.invariants import broken
from tests.simulation.world import ViolationError, World

_REST_SECONDS = 1500.0
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
    until = world.loop.time() + _REST_SECONDS
    while found := broken(world):
        if world.loop.time() > until:
            raise ViolationError(f"not at rest after {_REST_SECONDS:g} s: " + "; ".join(found[:5]))
        world.run_for(10.0)
    world.run_for(_CALM_SECONDS)
    while found := broken(world):
        if found != ["calls are under way"]:
            raise ViolationError("it was at rest, and then: " + "; ".join(found[:5]))
        world.run_for(0.5)
    operations = Counter(one.kind for one in world.model.granted)
    return Outcome([world.trace_hash], world.faults.counts, operations, world.requests.asked, world.loop.time())


def run(seed: int) -> Outcome:
    """The history of a seed. Raises ViolationError with the seed and the shortest history found that fails."""
    events = draw(seed)
    try:
        return play(seed, events)
    except Exception as error:
        smallest, reason = shrink(events, lambda part: _failure(seed, part))
        raise ViolationError(
            f"seed {seed} fails: {error}\n"
            f"{len(smallest)} of its {len(events)} events suffice: {reason}\n{shown(smallest)}"
        ) from error


def _failure(seed: int, events: Sequence[Event]) -> str | None:
    try:
        play(seed, events)
    except Exception as error:  # a defect that shows as another error is one too
        return f"{type(error).__name__}: {error}"
    return None


def shrink(
    events: Sequence[Event], fails: Callable[[Sequence[Event]], str | None], tries: int = 150
) -> tuple[list[Event], str]:
    """The smallest history found that fails, by leaving out ever smaller parts; and why it fails."""
    smallest, reason = list(events), fails(events) or "it did not fail again"
    part = max(1, len(smallest) // 2)
    while part and tries > 0:
        start, shorter = 0, False
        while start < len(smallest) and tries > 0:
            rest = [*smallest[:start], *smallest[start + part :]]
            tries -= 1
            if found := fails(rest):
                smallest, reason, shorter = rest, found, True
            else:
                start += part
        if not shorter or part > len(smallest):
            part //= 2
    return smallest, reason


def run_many(first: int, number: int) -> Outcome:
    """The seeds from `first` on. Raises ViolationError at the first that fails."""
    total = Outcome()
    for seed in range(first, first + number):
        total.add(run(seed))
    return total


def main(arguments: Sequence[str]) -> int:
    """How many seeds, from which on (0). Every failing seed is printed; the status says whether there was one."""
    number, first = int(arguments[0]), int(arguments[1]) if len(arguments) > 1 else 0
    total, failures, began = Outcome(), 0, time.perf_counter()
    for seed in range(first, first + number):
        try:
            total.add(run(seed))
        except ViolationError as violation:
            failures += 1
            print(f"{violation}\n", flush=True)
    spent = time.perf_counter() - began
    print(f"{total}\n{spent:.1f} s, {number / spent:.1f} seeds a second; {failures} seeds failed")
    return min(1, failures)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
