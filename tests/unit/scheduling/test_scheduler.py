"""The scheduler: reports, promises, repeats."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from cluster.scheduling.decide import NoPlacementError
from cluster.scheduling.errors import HostNameError
from cluster.scheduling.ledger import Ledger
from cluster.scheduling.pool_state import PoolState
from cluster.scheduling.request import Operation, PlacementRequest
from cluster.scheduling.scheduler import Scheduler
from cluster.scheduling.settings import SchedulingSettings
from drivers.vocabulary import Capabilities, PoolReport

VOLUME = "11111111-1111-1111-1111-111111111111"
OTHER = "22222222-2222-2222-2222-222222222222"
THICK = Capabilities("iSCSI", "Pumice", "1", thin=False, shares_extents=False)


class Clock:
    """Monotonic seconds that a test sets."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


class Bench:
    """A scheduler with two services of one pool each: a has more room than b."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.scheduler = Scheduler(Ledger(), SchedulingSettings(), self.clock, random.Random(1))
        self.report("a@x", 100.0)
        self.report("b@x", 50.0)

    def report(self, host: str, free: float, total: float = 100.0, pool: str = "p") -> None:
        self.scheduler.report(host, [PoolReport(pool, total, free, THICK)], availability_zone="nova")

    def pool(self, host: str) -> PoolState:
        (found,) = (pool for pool in self.scheduler.pools_view() if pool.host == host)
        return found

    def place(self, volume_id: str = VOLUME, size: int = 10, **more: object) -> str:
        return self.scheduler.place(PlacementRequest(volume_id, size, **more)).host  # type: ignore[arg-type]


@pytest.fixture
def bench() -> Bench:
    return Bench()


def room(pool: PoolState) -> tuple[object, float, int]:
    return pool.free_gib, pool.provisioned_gib, pool.volume_count


def test_a_placement_takes_room_until_it_is_released(bench: Bench) -> None:
    assert bench.place(size=60) == "a@x#p"
    assert room(bench.pool("a@x#p")) == (40, 60, 1)
    assert bench.place(OTHER, size=45) == "b@x#p"
    bench.scheduler.release(VOLUME)
    bench.scheduler.release(VOLUME)
    assert room(bench.pool("a@x#p")) == (100, 0, 0)


def test_a_repeat_is_the_same_answer_and_takes_no_more(bench: Bench) -> None:
    first = bench.scheduler.place(PlacementRequest(VOLUME, 90))
    again = bench.scheduler.place(PlacementRequest(VOLUME, 90))
    assert (first.host, first.repeated) == ("a@x#p", False)
    assert (again.host, again.repeated) == ("a@x#p", True)
    assert room(bench.pool("a@x#p")) == (10, 90, 1)


def test_after_a_failed_attempt_another_pool_is_taken_and_the_first_given_back(bench: Bench) -> None:
    assert bench.place() == "a@x#p"
    for tried in ("a@x#p", "a@x"):
        assert bench.place(exclude_hosts=frozenset({tried})) == "b@x#p"
    assert room(bench.pool("a@x#p")) == (100, 0, 0)
    with pytest.raises(NoPlacementError, match="an earlier attempt failed there"):
        bench.place(exclude_hosts=frozenset({"a@x", "b@x"}))
    assert room(bench.pool("b@x#p")) == (50, 0, 0)


def test_a_promise_on_a_vanished_pool_is_made_anew(bench: Bench) -> None:
    assert bench.place() == "a@x#p"
    bench.scheduler.forget("a@x")
    assert bench.place() == "b@x#p"
    bench.report("a@x", 100.0)
    assert bench.pool("a@x#p").volume_count == 0


def test_a_report_lifts_the_hold_on_free_room_but_not_the_promise(bench: Bench) -> None:
    bench.place(size=60)
    bench.report("a@x", 95.0)
    assert room(bench.pool("a@x#p")) == (95, 60, 1)
    assert bench.place(OTHER, size=45) == "b@x#p"


def test_pools_that_a_report_no_longer_names_are_gone(bench: Bench) -> None:
    bench.report("a@x", 10.0, pool="q")
    assert [pool.host for pool in bench.scheduler.pools_view()] == ["a@x#q", "b@x#p"]


def test_no_room_is_an_error_with_its_reasons_and_takes_nothing(bench: Bench) -> None:
    with pytest.raises(NoPlacementError) as caught:
        bench.place(size=101)
    assert [one.host for one in caught.value.refusal.rejections] == ["a@x#p", "b@x#p"]
    assert "101 GiB asked, 100 GiB thick room left" in str(caught.value)
    assert room(bench.pool("a@x#p")) == (100, 0, 0)


def test_extend_takes_the_growth_once(bench: Bench) -> None:
    bench.place(size=60)
    grow = PlacementRequest(VOLUME, 90, operation=Operation.EXTEND, current_size_gib=60, required_host="a@x#p")
    assert [bench.scheduler.place(grow).repeated for _ in range(2)] == [False, True]
    assert room(bench.pool("a@x#p")) == (10, 90, 1)
    with pytest.raises(NoPlacementError, match="11 GiB asked, 10 GiB thick room left"):
        bench.scheduler.place(replace(grow, size_gib=101, current_size_gib=90))
    assert room(bench.pool("a@x#p")) == (10, 90, 1)
    bench.scheduler.resize(VOLUME, 60)
    assert room(bench.pool("a@x#p")) == (40, 60, 1)


def test_an_extend_that_the_records_show_already_is_still_looked_at(bench: Bench) -> None:
    bench.place(OTHER, size=20)
    bench.clock.now += 1000
    bench.scheduler.rebuild([(OTHER, "a@x#p", 20), (VOLUME, "a@x#p", 120)])
    grow = PlacementRequest(VOLUME, 120, operation=Operation.EXTEND, current_size_gib=30, required_host="a@x#p")
    with pytest.raises(NoPlacementError, match="90 GiB asked, 50 GiB thick room left"):
        bench.scheduler.place(grow)
    assert bench.pool("a@x#p").allocated_gib == 50
    bench.scheduler.rebuild([(OTHER, "a@x#p", 20), (VOLUME, "a@x#p", 80)])
    assert bench.scheduler.place(replace(grow, size_gib=80)).host == "a@x#p"
    assert bench.pool("a@x#p").allocated_gib == 100


def test_manage_takes_what_it_adopts_without_asking_for_room(bench: Bench) -> None:
    bench.report("b@x", 0.0)
    assert bench.place(size=30, operation=Operation.MANAGE, required_host="b@x#p") == "b@x#p"
    assert bench.pool("b@x#p").allocated_gib == 30


def test_services_that_are_down_or_disabled_take_nothing(bench: Bench) -> None:
    bench.scheduler.set_service("a@x", up=False, enabled=True)
    assert bench.place() == "b@x#p"
    bench.scheduler.set_service("b@x", up=True, enabled=False)
    with pytest.raises(NoPlacementError, match="its service is down"):
        bench.place(OTHER)
    # A report shows that it is up; only an operator enables.
    bench.report("a@x", 100.0)
    bench.report("b@x", 50.0)
    assert bench.pool("a@x#p").service_up
    assert not bench.pool("b@x#p").service_enabled
    bench.scheduler.set_service("b@x", up=True, enabled=True)
    assert bench.pool("b@x#p").service_enabled


def test_rebuild_takes_the_records_and_keeps_young_promises(bench: Bench) -> None:
    assert bench.place(size=60) == "a@x#p"
    bench.clock.now += 299
    bench.scheduler.rebuild([(OTHER, "b@x#p", 20), ("elsewhere", "gone@x#p", 5)])
    assert room(bench.pool("a@x#p")) == (40, 60, 1)
    assert room(bench.pool("b@x#p")) == (50, 20, 1)
    bench.clock.now += 1
    bench.scheduler.rebuild([(OTHER, "b@x#p", 20)])
    assert room(bench.pool("a@x#p")) == (100, 0, 0)
    # A restarted scheduler knows from the records where a repeated request went.
    assert bench.place(OTHER, size=20) == "b@x#p"


def test_a_report_with_a_bad_name_changes_nothing(bench: Bench) -> None:
    with pytest.raises(HostNameError):
        bench.report("a@x", 1.0, pool="")
    assert room(bench.pool("a@x#p")) == (100, 0, 0)


def test_the_same_seed_places_the_same_way() -> None:
    def placed() -> list[str]:
        bench = Bench()
        for number in range(4):
            bench.report(f"h{number}@x", 100.0)
        return [bench.place(f"{number:08d}-1111-1111-1111-111111111111", size=5) for number in range(12)]

    first = placed()
    assert first == placed()
    assert len(set(first)) == 5
