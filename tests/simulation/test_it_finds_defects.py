"""A simulation is worth something only if it finds defects: known ones are put in, and each must be found."""

from __future__ import annotations

from concurrent.futures import Future, ProcessPoolExecutor

import pytest

from tests.simulation.defects import DEFECTS, finding

_NAMES = [defect.__name__ for defect in DEFECTS]


@pytest.fixture(scope="module")
def findings(pool: ProcessPoolExecutor) -> dict[str, Future[str | None]]:
    """What is found of each defect. They are put in where they are looked for: in other processes."""
    return {name: pool.submit(finding, name) for name in _NAMES}


@pytest.mark.parametrize("name", _NAMES)
def test_a_defect_is_found(name: str, findings: dict[str, Future[str | None]]) -> None:
    found = findings[name].result()
    assert found is not None, "sixty seeds did not find it"
    print(found[:300])
