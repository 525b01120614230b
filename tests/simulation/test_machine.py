"""Sequences drawn by Hypothesis, which shrinks what fails: the same requests and disasters, one rule for each kind."""

from __future__ import annotations

from contextlib import ExitStack

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from tests.simulation.history import DISASTERS, REQUESTS, Event
from tests.simulation.invariants import broken
from tests.simulation.runner import finish
from tests.simulation.world import World

_choice = st.integers(0, 999)


class ControlPlane(RuleBasedStateMachine):
    """Each step asks for something, breaks something, or lets time pass; at the end all must settle."""

    def __init__(self) -> None:
        super().__init__()
        self._stack = ExitStack()
        self._world: World | None = None

    @initialize(seed=st.integers(0, 2**32))
    def begin(self, seed: int) -> None:
        """The seed decides latencies, ids and which calls a fault strikes."""
        self._world = self._stack.enter_context(World.running(seed))

    @rule(kind=st.sampled_from([*REQUESTS]), a=_choice, b=_choice, c=_choice)
    def ask(self, kind: str, a: int, b: int, c: int) -> None:
        """A request, compared with the model when its transaction runs."""
        self._apply(Event(0.0, kind, a, b, c))

    @rule(kind=st.sampled_from([*DISASTERS]), a=_choice, b=_choice, c=_choice, seconds=st.floats(1.0, 40.0))
    def break_something(self, kind: str, a: int, b: int, c: int, seconds: float) -> None:
        """A disaster."""
        self._apply(Event(0.0, kind, a, b, c, seconds))

    @rule(seconds=st.floats(0.01, 30.0))
    def wait(self, seconds: float) -> None:
        """Let time pass."""
        assert self._world is not None
        self._world.run_for(seconds)

    def teardown(self) -> None:
        """The faults end, everything settles, and the invariants hold."""
        with self._stack:
            if self._world is not None and not self._world.violations:
                finish(self._world)
                assert not broken(self._world)

    def _apply(self, event: Event) -> None:
        assert self._world is not None
        self._world.apply(event)
        self._world.run_for(0.05)


TestControlPlane = ControlPlane.TestCase
TestControlPlane.settings = settings(
    max_examples=40,
    stateful_step_count=25,
    deadline=None,
    derandomize=True,
    database=None,
    phases=(Phase.generate, Phase.shrink),
    suppress_health_check=list(HealthCheck),
)
