"""The decision: who is left out, who wins, and how a refusal reads."""

from __future__ import annotations

import pickle
import random
from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.scheduling.decide import NoPlacementError, Placement, Refusal, Rejection, decide
from cluster.scheduling.pool_state import PoolState
from cluster.scheduling.request import Operation, PlacementRequest
from cluster.scheduling.settings import FilterName, Pick, SchedulingSettings, WeigherName, WeigherSettings
from cluster.scheduling.weighers import Weighing

VOLUME = "11111111-1111-1111-1111-111111111111"
ASK = PlacementRequest(VOLUME, 10)
SETTINGS = SchedulingSettings()


def pool(host: str, free: float = 100.0, zone: str = "z1", up: bool = True, enabled: bool = True) -> PoolState:
    return PoolState(
        host=host,
        backend_name="b",
        availability_zone=zone,
        total_gib=1000.0,
        free_gib=free,
        service_up=up,
        service_enabled=enabled,
    )


POOLS = [
    pool("h1@b#p", free=5.0),
    pool("h2@b#p", free=200.0),
    pool("h3@b#p", free=300.0, zone="z2"),
    pool("h4@b#p", free=900.0, up=False),
    pool("h5@b#p", free=900.0, enabled=False),
]


def chosen(
    request: PlacementRequest, pools: list[PoolState] = POOLS, settings: SchedulingSettings = SETTINGS, seed: int = 1
) -> Placement:
    decision = decide(pools, request, settings, random.Random(seed))
    assert isinstance(decision, Placement)
    return decision


def refused(request: PlacementRequest, pools: list[PoolState] = POOLS) -> Refusal:
    decision = decide(pools, request, SETTINGS, random.Random(1))
    assert isinstance(decision, Refusal)
    return decision


def test_the_roomiest_pool_that_passes_wins_and_says_why() -> None:
    decision = chosen(replace(ASK, availability_zone="z1"), [*POOLS, pool("h6@b#p", free=100.0)])
    assert decision.host == "h2@b#p"
    assert decision.reasons == (Weighing(WeigherName.CAPACITY, 200.0, 1.0, 1.0),)
    assert [(one.host, one.filter) for one in decision.rejections] == [
        ("h1@b#p", "CapacityFilter"),
        ("h3@b#p", "AvailabilityZoneFilter"),
        ("h4@b#p", "ServiceState"),
        ("h5@b#p", "ServiceState"),
    ]


def test_a_refusal_names_each_pool_and_its_reason() -> None:
    refusal = refused(replace(ASK, size_gib=250, availability_zone="z1"))
    assert refusal.considered == 5
    assert refusal.rejections == (
        Rejection(
            "h1@b#p",
            "CapacityFilter",
            "250 GiB asked, 5 GiB thick room left (1000 GiB total, 0 GiB reserved, 0 GiB provisioned, 5 GiB free)",
        ),
        Rejection(
            "h2@b#p",
            "CapacityFilter",
            "250 GiB asked, 200 GiB thick room left (1000 GiB total, 0 GiB reserved, 0 GiB provisioned, 200 GiB free)",
        ),
        Rejection("h3@b#p", "AvailabilityZoneFilter", "its availability zone is 'z2'; asked for is z1"),
        Rejection("h4@b#p", "ServiceState", "its service is down"),
        Rejection("h5@b#p", "ServiceState", "its service is disabled"),
    )
    assert refusal.summary.startswith(
        f"No pool can take volume {VOLUME} (+250 GiB): refused 2 of 5 by CapacityFilter (250"
    )
    assert len(refusal.summary) == 255
    assert "h1@b" not in refusal.summary
    assert refusal.details.splitlines()[1:][3] == "h4@b#p: ServiceState: its service is down"


def test_a_short_refusal_is_one_whole_sentence() -> None:
    assert refused(ASK, [POOLS[3]]).summary == (
        f"No pool can take volume {VOLUME} (+10 GiB): refused 1 of 1 by ServiceState (its service is down)."
    )


def test_no_pools_at_all() -> None:
    assert "no pool is reported yet" in refused(ASK, []).summary
    missing = refused(replace(ASK, required_host="gone@b#p"))
    assert missing.considered == 0
    assert "the pool it has to be in is not reported" in missing.summary
    assert "only gone@b#p was considered" in missing.details


def test_a_long_refusal_is_cut_to_what_a_person_reads() -> None:
    refusal = refused(replace(ASK, size_gib=5000), [pool(f"h{number}@b#p") for number in range(80)])
    assert len(refusal.rejections) == 80
    assert len(refusal.details.splitlines()) == 52
    assert refusal.details.endswith("and 30 more")


def test_a_clone_goes_where_its_source_is_and_only_room_is_checked() -> None:
    clone = replace(
        ASK,
        required_host="h3@b#p",
        availability_zone="z1",
        extra_specs={"volume_backend_name": "other"},
        exclude_hosts=frozenset({"h3@b#p"}),
    )
    assert chosen(clone).host == "h3@b#p"
    assert [one.filter for one in refused(replace(clone, size_gib=301)).rejections] == ["CapacityFilter"]
    assert [one.filter for one in refused(replace(clone, required_host="h4@b#p")).rejections] == ["ServiceState"]
    assert chosen(replace(clone, required_host="h3@b")).host == "h3@b#p"


@pytest.mark.parametrize("operation", [Operation.EXTEND, Operation.MANAGE])
def test_extend_and_manage_pass_all_filters_on_their_pool(operation: Operation) -> None:
    request = replace(ASK, operation=operation, required_host="h2@b#p")
    assert chosen(request).host == "h2@b#p"
    elsewhere = refused(replace(request, availability_zone="z9"))
    assert [(one.host, one.filter) for one in elsewhere.rejections] == [("h2@b#p", "AvailabilityZoneFilter")]


def test_equal_pools_are_drawn_alike_whatever_their_order() -> None:
    pools = [pool(f"h{number}@b#p") for number in range(6)]
    for seed in range(20):
        assert chosen(ASK, pools, seed=seed).host == chosen(ASK, pools[::-1], seed=seed).host
    drawn = {chosen(ASK, pools, seed=seed).host for seed in range(60)}
    assert drawn == {one.host for one in pools}


def test_filters_that_are_off_say_nothing() -> None:
    settings = SchedulingSettings(filters=(FilterName.CAPACITY,))
    assert chosen(replace(ASK, availability_zone="z9"), settings=settings).host == "h3@b#p"


def test_a_stochastic_pick_draws_by_share() -> None:
    settings = SchedulingSettings(weighers=WeigherSettings(pick=Pick.STOCHASTIC))
    pools = [pool("a@b#p", free=300.0), pool("b@b#p", free=100.0), pool("c@b#p", free=10.0, up=False)]
    drawn = Counter(chosen(ASK, pools, settings, seed).host for seed in range(400))
    assert set(drawn) == {"a@b#p", "b@b#p"}
    assert 240 < drawn["a@b#p"] < 360
    nothing = SchedulingSettings(weighers=WeigherSettings(capacity=-1.0, pick=Pick.STOCHASTIC))
    assert {chosen(ASK, pools, nothing, seed).host for seed in range(40)} == {"a@b#p", "b@b#p"}


def test_the_error_carries_its_refusal_between_processes() -> None:
    error = NoPlacementError(refused(replace(ASK, size_gib=5000)))
    arrived = pickle.loads(pickle.dumps(error))
    assert type(arrived) is NoPlacementError
    assert (arrived.refusal, str(arrived)) == (error.refusal, error.refusal.summary)


@given(
    st.lists(st.tuples(st.floats(0, 100), st.sampled_from(["z1", "z2"]), st.booleans()), max_size=8),
    st.integers(0, 100),
    st.sampled_from([None, "z1"]),
)
def test_a_placement_passes_and_a_refusal_is_complete(
    made: list[tuple[float, str, bool]], size: int, zone: str | None
) -> None:
    pools = [pool(f"h{number}@b#p", free, at, up) for number, (free, at, up) in enumerate(made)]
    fit = {f"h{number}@b#p" for number, (free, at, up) in enumerate(made) if up and free >= size and zone in (None, at)}
    decision = decide(pools, replace(ASK, size_gib=size, availability_zone=zone), SETTINGS, random.Random(1))
    assert {one.host for one in decision.rejections} == {one.host for one in pools} - fit
    if isinstance(decision, Placement):
        assert decision.host in fit
    else:
        assert not fit
        assert len(decision.summary) <= 255
