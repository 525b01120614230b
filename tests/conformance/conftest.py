"""The drivers under test. PUMICE_CONFORMANCE="package.module:HarnessClass" puts a third party's in their place."""

from __future__ import annotations

import importlib
import os
import sys
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest
import pytest_asyncio

from actors import processes
from drivers.protocols import Export
from tests.conformance.export_harness import HARNESSES, ExportHarness, Place
from tests.conformance.harness import FullBackend, Harness
from tests.conformance.memory_harness import MemoryHarness
from tests.conformance.reflink_harness import BtrfsHarness, Ext4Harness, XfsHarness

_CHECKOUT = str(Path(__file__).parents[2])
if _CHECKOUT not in sys.path:  # the child processes that are killed import this suite by name
    sys.path.append(_CHECKOUT)


def _harnesses() -> list[type[Harness]]:
    outside = os.environ.get("PUMICE_CONFORMANCE")
    if outside is None:
        return [MemoryHarness, XfsHarness, BtrfsHarness, Ext4Harness]
    module, _, name = outside.partition(":")
    return [getattr(importlib.import_module(module), name)]


@pytest.fixture(scope="session", params=_harnesses(), ids=lambda harness: harness.name)
def storage(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Harness]:
    """Storage of one driver, for the session."""
    harness: Harness = request.param()
    try:
        harness.start(tmp_path_factory.mktemp(harness.name))
        yield harness
    finally:
        harness.stop()


@pytest.fixture
def harness(storage: Harness) -> Harness:
    """Storage with an empty pool."""
    storage.renew()
    return storage


@pytest_asyncio.fixture
async def backend(harness: Harness) -> AsyncIterator[FullBackend]:
    """An open backend on an empty pool."""
    opened = harness.backend()
    await opened.open()
    try:
        yield opened
    finally:
        await opened.close()


@pytest.fixture
def new_id() -> Callable[[], str]:
    """Another id at each call; ids of different test runs do not matter to one another."""
    return lambda: str(uuid.uuid4())


@pytest.fixture(params=HARNESSES, ids=lambda harness: harness.name)
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[ExportHarness]:
    """One way of one export, in a place of its own, of which nothing is left."""
    place = Place()
    monkeypatch.setenv(processes.MARK, place.mark)
    try:
        yield request.param(place)
    finally:
        place.leave()


@pytest_asyncio.fixture
async def export(way: ExportHarness) -> AsyncIterator[Export]:
    """That export, open."""
    opened = way.export()
    await opened.open()
    yield opened
    await opened.close()
