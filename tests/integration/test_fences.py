"""SIGSTOP trials with real processes: whoever was stopped and replaced writes nothing more, in SQL or on storage."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest
from sqlalchemy import Engine, event

from cluster.outside import Outside
from cluster.settings import Settings
from cluster.store.open import migrate, open_store
from cluster.volume_types.intents import ensure_default_type
from tests.integration.fences import mutants, trials
from tests.integration.fences.evidence import DATABASE
from tests.integration.fences.processes import sign
from tests.integration.fences.trials import Verdict

Mutant = Callable[[], None]
Trials = Callable[[Path, int, int, Mutant], Verdict]
_SEED = secrets.randbits(32)


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A database with Pumice's tables and the type of volumes. Connections of this process sign what they write."""
    directory = tmp_path_factory.mktemp("template")

    async def make() -> None:
        settings = Settings(state_dir=directory, host_name="h")
        await migrate(settings.database)
        store = open_store(settings.database)
        await ensure_default_type(store, settings, Outside())
        await store.close()

    asyncio.run(make())
    signing = partial(sign, "test")
    event.listen(Engine, "connect", signing)
    yield directory / DATABASE
    event.remove(Engine, "connect", signing)


def _conductors(template: Path, seed: int, count: int, mutant: Mutant) -> Verdict:
    return trials.run(trials.conductors(template, seed, count, mutant, mutants.none))


def _obeyed(template: Path, seed: int, count: int, mutant: Mutant) -> Verdict:
    # Its own clock would stop the conductor before the storage has to.
    return trials.run(trials.conductors(template, seed, count, mutants.conductor_without_clock, mutant))


def _one_pool(template: Path, seed: int, count: int, mutant: Mutant) -> Verdict:
    return trials.run(trials.one_pool(template, seed, count, mutant))


def _two_machines(template: Path, seed: int, count: int, mutant: Mutant) -> Verdict:
    return trials.run(trials.two_machines(template, seed, count, mutant))


def _all(parts: list[tuple[Trials, int]], template: Path, mutant: Mutant) -> Verdict:
    total = Verdict()
    with ThreadPoolExecutor(len(parts)) as threads:
        arenas = [
            threads.submit(part, template, _SEED + number, count, mutant) for number, (part, count) in enumerate(parts)
        ]
        for arena in arenas:
            total.add(arena.result())
    return total


def test_two_hundred_stopped_processes_write_nothing_stale(template: Path) -> None:
    parts: list[tuple[Trials, int]] = [
        *[(_conductors, 40)] * 2,
        (_obeyed, 40),
        (_one_pool, 40),
        (_two_machines, 40),
    ]
    verdict = _all(parts, template, mutants.none)
    print(f"seed {_SEED}: {verdict}")
    assert verdict.stale == [], f"seed {_SEED}"
    assert verdict.trials >= 200
    assert verdict.writes > 0
    assert verdict.effects > 0
    assert verdict.ended >= 160, "those that were replaced end themselves"


@pytest.mark.parametrize(
    ("part", "mutant"),
    [
        (_conductors, mutants.conductor_without_fences),
        (_obeyed, mutants.host_without_epochs),
        (_one_pool, mutants.pool_without_lock),
        (_two_machines, mutants.host_without_lease),
    ],
    ids=lambda value: value.__name__.strip("_"),
)
def test_without_the_fence_stale_writes_are_found(template: Path, part: Trials, mutant: Mutant) -> None:
    for attempt in range(8):
        if part(template, _SEED + attempt, 5, mutant).stale:
            return
    pytest.fail(f"seed {_SEED}: 40 trials without the fence, and nothing was found")
