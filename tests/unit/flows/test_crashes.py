"""Kill the control side at every step of every flow, start again from SQL and the storage, look at what is left.

The points are not listed here: each script is first played once to record the points that it passes. A new flow is in
this by itself: it fails `test_every_declared_step_of_every_flow_is_among_the_points` until a script runs it.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, create_engine

from cluster.flows.catalogue import FLOWS
from cluster.store.open import migrate
from tests.unit.flows.conftest import CRASHES
from tests.unit.flows.crash_invariants import check, records
from tests.unit.flows.crash_play import Killer, Point, World, play, prepared
from tests.unit.flows.crash_scripts import SCRIPTS

# Of all ways to be killed twice, one in so many is played, and one of each script at least.
_EVERY = 19


class Scenes:
    """Prepared worlds, made once each, and the points of each script, recorded once."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._worlds: dict[tuple[str, bool], World] = {}
        self._points: dict[str, list[Point]] = {}
        self._recoveries: dict[tuple[str, Point], list[Point]] = {}
        self._number = itertools.count()

    async def play(self, name: str, *targets: Point, files: bool = False) -> Killer:
        """Play in a world of its own, and check what is left."""
        script = SCRIPTS[name]
        template = await self.template(script.before, files=files)
        world = template.copied(self._directory / str(next(self._number)), script)
        return await play(world, script, targets, check)

    async def recovery(self, name: str, first: Point) -> list[Point]:
        """What flows pass after a kill at the point."""
        if (name, first) not in self._recoveries:
            passed = (await self.play(name, first)).passed
            later = passed[passed.index(first) + 1 :]
            self._recoveries[name, first] = [point for point in later if point[0] in FLOWS]
        return self._recoveries[name, first]

    async def template(self, before: str, *, files: bool = False) -> World:
        """A prepared world."""
        if (before, files) not in self._worlds:
            self._worlds[before, files] = await prepared(before, self._directory / f"{before}-{files}", files=files)
        return self._worlds[before, files]

    async def points(self, name: str) -> list[Point]:
        """What it passes when nobody kills it. Of many attempts that are refused alike, the first two and the last."""
        if name not in self._points:
            passed = (await self.play(name)).passed
            last = {point[:3]: point[3] for point in passed}
            self._points[name] = [point for point in passed if point[3] <= 2 or point[3] == last[point[:3]]]
        return self._points[name]

    async def of_flows(self, name: str) -> list[Point]:
        """Those of flows: flow, step, phase."""
        return [point for point in await self.points(name) if point[0] in FLOWS]


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Scenes:
    return Scenes(tmp_path_factory.mktemp("scenes"))


@pytest.fixture(scope="module")
def engines() -> Callable[..., Engine]:
    """`create_engine`, but what one SQLite engine has compiled of a statement, the next need not compile again: that
    is half of the time of a restart, and hundreds are made here."""
    first = create_engine("sqlite://")

    def create_like_it(*args: Any, **options: Any) -> Engine:
        engine = create_engine(*args, **options)
        engine.dialect, engine._compiled_cache = first.dialect, first._compiled_cache
        return engine

    with first.connect():
        return create_like_it


@pytest.fixture(autouse=True)
def _quick_starts(monkeypatch: pytest.MonkeyPatch, engines: Callable[..., Engine]) -> None:
    """The databases are copies of one that has its schema: to see that again at each start is most of a start."""

    async def migrate_new(url: str) -> None:
        if not Path(url.removeprefix("sqlite:///")).exists():
            await migrate(url)

    monkeypatch.setattr("cluster.store.sqlite.create_engine", engines)
    monkeypatch.setattr("actors.in_process.migrate", migrate_new)


@pytest.mark.parametrize("name", SCRIPTS)
async def test_killed_at_every_point_nothing_is_lost_leaked_or_stuck(name: str, scenes: Scenes) -> None:
    points = await scenes.of_flows(name)
    assert points
    for point in points:
        await scenes.recovery(name, point)
    print(f"{name}: killed at {len(points)} points")


@pytest.mark.parametrize("name", [name for name, script in SCRIPTS.items() if not script.faults])
async def test_the_bytes_in_files_are_what_they_were(name: str, scenes: Scenes) -> None:
    for point in await scenes.of_flows(name):
        if point[2] == "effect":
            await scenes.play(name, point, files=True)


@pytest.mark.parametrize("name", SCRIPTS)
async def test_killed_before_or_after_a_commit_all_of_a_transaction_is_there_or_nothing(
    name: str, scenes: Scenes
) -> None:
    points = [point for point in await scenes.points(name) if point[1] == "write"]
    assert {(who, phase) for who, _, phase, _ in points} >= {("request", "undone"), ("request", "committed")}
    for point in points:
        if point[:3] != ("request", "write", "undone"):
            await scenes.play(name, point)


async def test_a_request_that_was_not_committed_has_not_happened(scenes: Scenes, tmp_path: Path) -> None:
    for name, script in SCRIPTS.items():
        template = await scenes.template(script.before)
        world = template.copied(tmp_path / name, script)
        before = await records(world)
        await play(world, script, [("request", "write", "undone", 1)])
        assert await records(world) == before
        assert world.storage.objects() == template.storage.objects()
        assert world.storage.consumers == template.storage.consumers


@pytest.mark.parametrize("name", SCRIPTS)
async def test_killed_again_while_it_recovers(name: str, scenes: Scenes) -> None:
    pairs = [(first, second) for first in await scenes.of_flows(name) for second in await scenes.recovery(name, first)]
    assert pairs
    chosen = pairs[::_EVERY]
    for first, second in chosen:
        await scenes.play(name, first, second)
    print(f"{name}: killed twice in {len(chosen)} of {len(pairs)} ways")


async def test_every_declared_step_of_every_flow_is_among_the_points(scenes: Scenes) -> None:
    seen: dict[str, set[str]] = {}
    for name in SCRIPTS:
        for kind, step, _phase, _n in await scenes.of_flows(name):
            seen.setdefault(kind, set()).add(step.partition(".")[0])
    for kind, flow in FLOWS.items():
        assert seen[kind] == {*flow.steps, *flow.undo_steps}


async def test_how_many_points_there_are(scenes: Scenes, request: pytest.FixtureRequest) -> None:
    of_flows = {name: len(await scenes.of_flows(name)) for name in SCRIPTS}
    others = sum([len(await scenes.points(name)) for name in SCRIPTS]) - sum(of_flows.values())
    line = (
        f"{sum(of_flows.values())} crash points (flow, step, phase) in {len(SCRIPTS)} scripts of {len(FLOWS)} flows, "
        f"and {others} before and after commits"
    )
    print(line)
    request.config.stash[CRASHES] = line
    assert sum(of_flows.values()) > 100
