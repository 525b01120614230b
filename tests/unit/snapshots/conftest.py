"""The API on a new SQLite file."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.unit.volumes.bench import Bench, open_bench, write_template


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return asyncio.run(write_template(tmp_path_factory.mktemp("template")))


@pytest_asyncio.fixture
async def bench(template: Path, tmp_path: Path) -> AsyncIterator[Bench]:
    opened = open_bench(template, tmp_path)
    yield opened
    await opened.store.close()
