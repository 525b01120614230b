"""What is remembered of the ways to exports, and when rules are declared."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import structlog

from cluster.storage_network.seam import Capability, Way
from cluster.storage_network.ways import Ways
from drivers.vocabulary import BackendUnavailableError, Limits, Portal, UnsupportedError

C1, C2, V1 = (f"00000000-0000-4000-8000-{number:012d}" for number in (1, 2, 3))
AT = Portal("10.2.0.5", 10900)
WAY = Way(C1, V1, AT, "10.2.0.9", is_local=False, limits=Limits(read_bytes=1 << 20))


class Kernel:
    """Rules that hold what they were last told."""

    def __init__(self, name: str = "rule") -> None:
        self.name, self.ways, self.applied = name, list[Way](), 0
        self.broken: Exception | None = None
        self.refuses = False

    def shown(self) -> Mapping[str, Capability]:
        return {self.name: "broken" if self.broken else "kept"}

    def refuse(self, way: Way) -> None:
        if self.refuses:
            raise UnsupportedError(f"connection {way.connection_id} cannot be told")

    async def apply(self, ways: Sequence[Way]) -> None:
        await asyncio.sleep(0)
        if self.broken:
            raise self.broken
        self.ways, self.applied = list(ways), self.applied + 1


@pytest.fixture
def kernel() -> Kernel:
    return Kernel()


@pytest.fixture
def ways(tmp_path: Path, kernel: Kernel) -> Ways:
    return Ways("h1@fast", tmp_path / "ways", [kernel], {"storage_mtu": 9000})


async def test_rules_come_and_go_with_the_connection(ways: Ways, kernel: Kernel, tmp_path: Path) -> None:
    assert not await ways.has_way(C1)
    await ways.ensure_way(WAY)
    assert kernel.ways == [WAY]
    assert await ways.has_way(C1)
    slower = replace(WAY, limits=Limits(read_bytes=1 << 10))
    await ways.ensure_way(slower)
    assert kernel.ways == [slower]
    await ways.ensure_way_absent(C1)
    assert kernel.ways == []
    assert not await ways.has_way(C1)
    assert list((tmp_path / "ways").iterdir()) == []
    told = kernel.applied
    await ways.ensure_way_absent(C1)
    assert kernel.applied == told, "nothing to do"


async def test_the_next_life_declares_what_was_remembered(ways: Ways, tmp_path: Path) -> None:
    other = replace(WAY, connection_id=C2, consumer=None, is_local=True, limits=Limits())
    await ways.ensure_way(WAY)
    await ways.ensure_way(other)
    kernel = Kernel()
    later = Ways("h1@fast", tmp_path / "ways", [kernel])
    await later.open()
    assert kernel.ways == [WAY, other]
    third = replace(WAY, connection_id=V1)
    kernel = Kernel()
    await Ways("h1@fast", tmp_path / "ways", [kernel]).ensure_way(third)
    assert set(kernel.ways) == {WAY, other, third}, "also when a new connection is the first that it hears of"


async def test_reconciling_ends_what_is_not_served_and_tells_what_it_does_not_know(ways: Ways, kernel: Kernel) -> None:
    await ways.ensure_way(WAY)
    moved = Portal("10.2.0.5", 10999)
    assert set(await ways.reconcile({C2: AT, C1: moved}, ways.stamp())) == {C2}
    assert kernel.ways == [replace(WAY, portal=moved)]
    assert set(await ways.reconcile({}, ways.stamp())) == set()
    assert kernel.ways == []


async def test_reconciling_declares_the_rules_again_whatever_has_become_of_them(ways: Ways, kernel: Kernel) -> None:
    await ways.ensure_way(WAY)
    kernel.ways = []
    await ways.reconcile({C1: AT}, ways.stamp())
    assert kernel.ways == [WAY]


async def test_what_came_while_the_exports_were_asked_stays(ways: Ways, kernel: Kernel) -> None:
    await ways.ensure_way(WAY)
    since = ways.stamp()
    new = replace(WAY, connection_id=C2)
    await ways.ensure_way(new)
    await ways.ensure_way(WAY)  # it died, was not seen, and was let in again
    assert set(await ways.reconcile({}, since)) == set()
    assert kernel.ways == [WAY, new]


@pytest.mark.parametrize("error", [BackendUnavailableError("no packet filter"), struct.error("a defect")])
async def test_a_new_way_without_its_rules_is_none(
    ways: Ways, kernel: Kernel, tmp_path: Path, error: Exception
) -> None:
    kernel.broken = error
    with pytest.raises(type(error), match=str(error)):
        await ways.ensure_way(WAY)
    assert not await ways.has_way(C1)
    assert list((tmp_path / "ways").iterdir()) == []
    kernel.broken, kernel.refuses = None, True
    with pytest.raises(UnsupportedError):
        await ways.ensure_way(WAY)
    assert not await ways.has_way(C1)
    assert kernel.ways == []


async def test_a_way_that_is_there_is_not_forgotten_when_its_rules_cannot_change(ways: Ways, kernel: Kernel) -> None:
    await ways.ensure_way(WAY)
    kernel.broken = BackendUnavailableError("no packet filter")
    with pytest.raises(BackendUnavailableError):
        await ways.ensure_way(replace(WAY, limits=Limits()))
    assert await ways.has_way(C1)
    kernel.broken = None
    await ways.open()
    assert kernel.ways == [WAY], "it keeps what it had"


async def test_one_kind_of_rule_that_fails_is_said_once_and_takes_nothing_from_the_others(tmp_path: Path) -> None:
    first, second = Kernel("first"), Kernel("second")
    ways = Ways("h1@fast", tmp_path / "ways", [first, second], {"storage_mtu": 9000})
    await ways.ensure_way(WAY)
    first.broken, second.ways = ZeroDivisionError(), []
    with structlog.testing.capture_logs() as said:
        for _ in range(3):
            await ways.reconcile({C1: AT}, ways.stamp())
    assert [(line["event"], line["error"]) for line in said] == [
        ("network.rules_failed", "a defect: ZeroDivisionError")
    ]
    assert second.ways == [WAY]
    assert ways.shown() == {"storage_mtu": 9000, "first": "broken", "second": "kept"}


async def test_a_file_that_cannot_be_read_is_as_if_it_were_not_there(ways: Ways, tmp_path: Path) -> None:
    await ways.ensure_way(WAY)
    [file] = (tmp_path / "ways").iterdir()
    file.write_text("{")
    kernel = Kernel()
    later = Ways("h1@fast", tmp_path / "ways", [kernel])
    assert set(await later.reconcile({C1: AT}, later.stamp())) == {C1}
    assert kernel.ways == []


async def test_who_is_cancelled_leaves_no_older_rules_behind(ways: Ways, kernel: Kernel) -> None:
    asked = asyncio.create_task(ways.ensure_way(WAY))
    await asyncio.sleep(0)
    asked.cancel()
    await ways.ensure_way(replace(WAY, connection_id=C2))
    assert {way.connection_id for way in kernel.ways} == {C1, C2}
