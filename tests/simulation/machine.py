"""A Hypothesis state machine that draws sequences of requests and disasters, and shrinks what fails.

Its rules know from the reference model what there is: nothing is extended before a volume was granted. What may be
asked in which state is the model's to say when the transaction runs (`requests`).
"""

from __future__ import annotations

from contextlib import ExitStack

from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from tests.simulation.history import Event
from tests.simulation.invariants import broken, impossible
from tests.simulation.runner import Outcome, finish
from tests.simulation.world import World

_number = st.integers(0, 999)
_pick = st.integers(0, 9)
_seconds = st.floats(0.5, 40.0)
_has_volumes = precondition(lambda machine: bool(machine.world.model.volumes))
_has_attachments = precondition(lambda machine: bool(machine.world.model.claims.attachments))
_has_snapshots = precondition(lambda machine: bool(machine.world.model.snapshots))


class ControlPlane(RuleBasedStateMachine):
    """Each step asks for something, breaks something, or lets time pass; at the end all must settle."""

    world: World
    total: Outcome

    def __init__(self) -> None:
        super().__init__()
        self._stack = ExitStack()

    @initialize(number=st.integers(0, 2**32), volumes=st.integers(0, 3))
    def begin(self, number: int, volumes: int) -> None:
        """The number decides latencies, ids and which calls a fault strikes. Some volumes are there from the start."""
        self.world = self._stack.enter_context(World.running(number))
        for size in range(volumes):
            self._apply("create", 0, size, 0)
        self.world.run_for(2.0)

    @rule(pick=_pick, size=_number, how=_number)
    def create(self, pick: int, size: int, how: int) -> None:
        self._apply("create", pick, size, how)

    @_has_volumes
    @rule(pick=_pick, size=_number)
    def extend(self, pick: int, size: int) -> None:
        self._apply("extend", pick, size)

    @_has_volumes
    @rule(pick=_pick, size=_number)
    def snapshot(self, pick: int, size: int) -> None:
        self._apply("snapshot", pick, size)

    @_has_volumes
    @rule(pick=_pick, size=_number, how=_number)
    def delete(self, pick: int, size: int, how: int) -> None:
        self._apply("delete", pick, size, how)

    @_has_snapshots
    @rule(pick=_pick, size=_number, how=_number)
    def delete_snapshot(self, pick: int, size: int, how: int) -> None:
        self._apply("delete_snapshot", pick, size, how)

    @_has_volumes
    @rule(pick=_pick)
    def write(self, pick: int) -> None:
        self._apply("write", pick)

    @_has_volumes
    @rule(pick=_pick, size=_number, how=_number)
    def reset_status(self, pick: int, size: int, how: int) -> None:
        self._apply("reset_status", pick, size, how)

    @_has_volumes
    @rule(kind=st.sampled_from(["attach", "attach", "older", "older", "detach_by_reset"]), a=_pick, b=_pick, c=_number)
    def take_a_volume(self, kind: str, a: int, b: int, c: int) -> None:
        self._apply(kind, a, b, c)

    @_has_attachments
    @rule(kind=st.sampled_from(["complete", "connect", "detach", "abandon"]), a=_pick, b=_pick, c=_number)
    def go_on_with_an_attachment(self, kind: str, a: int, b: int, c: int) -> None:
        self._apply(kind, a, b, c)

    @rule(pick=_pick, size=_number)
    def quota(self, pick: int, size: int) -> None:
        self._apply("quota", pick, size)

    @precondition(lambda machine: bool(machine.world.database.look().orphans))
    @rule(pick=_pick, size=_number, how=_number)
    def orphan(self, pick: int, size: int, how: int) -> None:
        self._apply("orphan", pick, size, how)

    @rule(which=_number, rate=st.integers(0, 3), seconds=_seconds)
    def fail_calls(self, which: int, rate: int, seconds: float) -> None:
        self._apply("window", which, rate, 0, seconds)

    @rule(kind=st.sampled_from(["kill", "pause", "cut", "twin"]), a=_number, b=_number, c=_number, seconds=_seconds)
    def hurt_a_process(self, kind: str, a: int, b: int, c: int, seconds: float) -> None:
        self._apply(kind, a, b, c, seconds)

    @rule(kind=st.sampled_from(["full", "stray", "skew"]), a=_number, b=_number, seconds=_seconds)
    def hurt_a_disk_or_clock(self, kind: str, a: int, b: int, seconds: float) -> None:
        self._apply(kind, a, b, 0, seconds)

    @rule(which=_pick, how=_pick, seconds=_seconds)
    def lose_exports(self, which: int, how: int, seconds: float) -> None:
        self._apply("reboot", which, how, 0, seconds)

    @rule(seconds=st.floats(0.05, 30.0))
    def wait(self, seconds: float) -> None:
        self.world.run_for(seconds)

    @invariant()
    def nothing_impossible_is_recorded(self) -> None:
        found = impossible(self.world)
        assert not found, found

    def teardown(self) -> None:
        """The faults end, everything settles, and the invariants hold."""
        with self._stack:
            if not self.world.violations:
                self.total.add(finish(self.world))
                assert not broken(self.world)

    def _apply(self, kind: str, a: int, b: int = 1, c: int = 0, seconds: float = 0.0) -> None:
        self.world.apply(Event(0.0, kind, a, b, c, seconds))
        self.world.run_for(0.05)


def examine(number: int, examples: int) -> Outcome:
    """Let Hypothesis draw so many examples from the seed `number`, always the same. Raises what the shortest history
    found raises; the rules that led there are its notes."""
    outcome = Outcome()
    machine = seed(number)(type("ControlPlane", (ControlPlane,), {"total": outcome}))
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=30,
            deadline=None,
            derandomize=True,
            database=None,
            phases=(Phase.generate, Phase.shrink),
            suppress_health_check=list(HealthCheck),
        ),
    )
    return outcome
