"""A conductor that never notices that it was replaced: the journal's fence alone keeps it from writing."""

from __future__ import annotations

import pytest

from tests.simulation import defects
from tests.simulation.history import draw
from tests.simulation.runner import play


def test_a_conductor_that_never_notices_its_end_writes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    # The same without the fence is one of the defects that have to be found (test_it_finds_defects).
    defects._a_conductor_that_never_notices(monkeypatch)
    for seed in range(15):
        events = draw(seed)
        play(seed, [*events[:4], *defects._TWO_CONDUCTORS, *events[4:]])
