"""Each filter, by Cinder's table, and what it tells."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from cluster.scheduling.filters import FILTERS
from cluster.scheduling.pool_state import PoolState
from cluster.scheduling.request import Operation, PlacementRequest
from cluster.scheduling.settings import FilterName

VOLUME = "11111111-1111-1111-1111-111111111111"
OTHER = "22222222-2222-2222-2222-222222222222"
THIRD = "33333333-3333-3333-3333-333333333333"

POOL = PoolState(
    host="h@b#p",
    backend_name="b",
    availability_zone="z1",
    total_gib=100.0,
    free_gib=60.0,
    node_labels={"disk": "nvme"},
    capabilities={"storage_protocol": "NVMe-oF", "online_extend_support": True, "tier": "gold"},
)
ASK = PlacementRequest(VOLUME, 10)


def why(name: FilterName, request: PlacementRequest, pool: PoolState = POOL) -> str | None:
    """What the filter says; one that does not concern the request must pass the pool as well."""
    known = FILTERS[name]
    assert known.name == name
    said = known.why(pool, request)
    if not known.concerns(request):
        assert said is None
    return said


@pytest.mark.parametrize(
    ("zone", "allowed", "told"),
    [
        (None, "", None),
        ("z1", "", None),
        ("z2", "", "its availability zone is 'z1'; asked for is z2"),
        (None, "z1,z2", None),
        (None, "z3, z2", "its availability zone is 'z1'; asked for is z2, z3"),
        ("z1", "z1,z2", None),
        ("z2", "z1,z2", "its availability zone is 'z1'; asked for is z2"),
        ("z1", "z2", "the type does not allow the availability zone asked for, 'z1'"),
    ],
)
def test_availability_zone(zone: str | None, allowed: str, told: str | None) -> None:
    specs = {"RESKEY:availability_zones": allowed} if allowed else {}
    request = replace(ASK, availability_zone=zone, extra_specs=specs)
    assert why(FilterName.AVAILABILITY_ZONE, request) == told


def test_capacity() -> None:
    assert why(FilterName.CAPACITY, replace(ASK, size_gib=60)) is None
    assert why(FilterName.CAPACITY, replace(ASK, size_gib=61)) == (
        "61 GiB asked, 60 GiB thick room left (100 GiB total, 0 GiB reserved, 0 GiB provisioned, 60 GiB free)"
    )


def test_capacity_of_an_extend_is_its_growth() -> None:
    extend = replace(ASK, operation=Operation.EXTEND, required_host=POOL.host, size_gib=100, current_size_gib=40)
    assert why(FilterName.CAPACITY, extend) is None
    assert "61 GiB asked" in str(why(FilterName.CAPACITY, replace(extend, size_gib=101)))


def test_capacity_where_the_volume_is_already_and_of_a_manage() -> None:
    assert why(FilterName.CAPACITY, replace(ASK, size_gib=999, exists_on=POOL.host)) is None
    assert why(FilterName.CAPACITY, replace(ASK, size_gib=999, exists_on="h@b#other")) is not None
    manage = replace(ASK, size_gib=999, operation=Operation.MANAGE, required_host=POOL.host)
    assert why(FilterName.CAPACITY, manage) is None


def test_capacity_of_a_thick_type_on_a_thin_pool() -> None:
    thin = replace(POOL, thin_support=True)
    assert why(FilterName.CAPACITY, replace(ASK, size_gib=61), thin) is None
    thick = replace(ASK, size_gib=61, extra_specs={"provisioning:type": "thick"})
    assert "60 GiB thick room" in str(why(FilterName.CAPACITY, thick, thin))
    wrong = replace(thin, max_over_subscription_ratio=0.9)
    assert "needs at least 1" in str(why(FilterName.CAPACITY, ASK, wrong))


@pytest.mark.parametrize(
    ("specs", "hints", "told"),
    [
        ({}, {}, None),
        ({"tier": "gold"}, {}, None),
        ({"tier": "silver"}, {}, "the type asks for tier 'silver', and the pool has 'gold'"),
        ({"storage_protocol": "nvmeof", "other:scope": "x"}, {}, None),
        ({"label:disk": "in(nvme,ssd)"}, {}, None),
        ({"label:disk": "!nvme"}, {}, "label:disk '!nvme' is asked for; its node has 'nvme'"),
        ({"label:gpu": "!x"}, {}, None),
        ({"label:gpu": "x"}, {}, "label:gpu 'x' is asked for; its node has no such label"),
        ({}, {"label:disk": "hdd"}, "label:disk 'hdd' is asked for; its node has 'nvme'"),
        ({"label:disk": "nvme"}, {"label:disk": "!nvme"}, "label:disk '!nvme' is asked for; its node has 'nvme'"),
        (
            {"label:disk": "s== x"},
            {},
            "label:disk: 's== x' is not a label selector: write v, !v, in(a,b) or !in(a,b)",
        ),
    ],
)
def test_capabilities_and_labels(specs: dict[str, str], hints: dict[str, object], told: str | None) -> None:
    assert why(FilterName.CAPABILITIES, replace(ASK, extra_specs=specs, hints=hints)) == told


def test_extending_while_attached() -> None:
    cannot = replace(POOL, capabilities={"online_extend_support": False})
    extend = replace(ASK, operation=Operation.EXTEND, required_host=POOL.host, attached=True)
    assert why(FilterName.CAPABILITIES, extend) is None
    assert "detach it first" in str(why(FilterName.CAPABILITIES, extend, cannot))
    assert why(FilterName.CAPABILITIES, replace(extend, attached=False), cannot) is None
    assert why(FilterName.CAPABILITIES, replace(ASK, attached=True), cannot) is None


@pytest.mark.parametrize(
    ("hint", "lives", "different", "same"),
    [
        (None, {}, True, True),
        ([], {}, True, True),
        (OTHER, {OTHER: "h@b#p"}, False, True),
        (OTHER, {OTHER: "h@b#q"}, True, False),
        (OTHER, {OTHER: "h@b"}, False, True),
        ([OTHER, THIRD], {OTHER: "x@b#p", THIRD: "h@b#p"}, False, True),
        ([OTHER, THIRD], {OTHER: "x@b#p"}, True, False),
        (OTHER, {}, True, False),
        ("no-id", {}, False, False),
        ("", {}, False, False),
        ([OTHER, "no-id"], {OTHER: "x@b#p"}, False, False),
        ({"a": 1}, {}, False, False),
    ],
)
def test_affinity(hint: object, lives: dict[str, str], different: bool, same: bool) -> None:
    apart = replace(ASK, hints={"different_host": hint} if hint is not None else {}, hosts_of=lives)
    together = replace(ASK, hints={"same_host": hint} if hint is not None else {}, hosts_of=lives)
    assert (why(FilterName.DIFFERENT_BACKEND, apart) is None) is different
    assert (why(FilterName.SAME_BACKEND, together) is None) is same


@pytest.mark.parametrize(
    ("function", "told"),
    [
        (None, None),
        ("volume.size <= 10", None),
        ("volume.size > 10", "its filter_function is false for this volume of 10 GiB; see the pool's stats"),
        ("0", "its filter_function is false for this volume of 10 GiB; see the pool's stats"),
        ("stats.free_capacity_gb == 60 and stats.host == 'h@b#p'", None),
        ("capabilities.tier == 'gold' && extra.kind == 'a' && qos.iops > 1 && volume.metadata_x == 'y'", None),
        ("stats.storage_protocol == 'nvmeof'", None),
        ("capabilities.storage_protocol == 'NVMeOF'", None),
        (
            "stats.storage_protocol == 'iSCSI'",
            "its filter_function is false for this volume of 10 GiB; see the pool's stats",
        ),
        ("stats.unheard > 1", "its filter_function failed: stats.unheard is not known here"),
        ("capabilities.unheard > 1", "its filter_function failed: capabilities.unheard is not known here"),
        ("extra.unheard > 1", "its filter_function failed: extra.unheard is not known here"),
        ("1 +", "its filter_function failed: '1 +': 'the end' does not belong there"),
    ],
)
def test_driver(function: str | None, told: str | None) -> None:
    request = replace(ASK, extra_specs={"kind": "a"}, qos_specs={"iops": 5}, volume_properties={"metadata_x": "y"})
    assert why(FilterName.DRIVER, request, replace(POOL, filter_function=function)) == told


def test_ignore_attempted() -> None:
    assert why(FilterName.IGNORE_ATTEMPTED, ASK) is None
    for tried in ("h@b#p", "h@b"):
        request = replace(ASK, exclude_hosts=frozenset({tried}))
        assert why(FilterName.IGNORE_ATTEMPTED, request) == "an earlier attempt failed there"
    assert why(FilterName.IGNORE_ATTEMPTED, replace(ASK, exclude_hosts=frozenset({"h@b#q"}))) is None


@pytest.mark.parametrize(
    ("query", "passes"),
    [
        ([">=", "$free_capacity_gb", 60], True),
        ([">", "$free_capacity_gb", 60], False),
        (["=", "$capabilities.tier", "gold"], True),
        (["=", "$host", "h@b#p"], True),
        (["=", "$label:disk", "nvme"], True),
        (["=", "$capabilities.label:disk", "nvme"], True),
        (["~", 1], False),
        (["<", "$host", 1], False),
    ],
)
def test_json(query: list[object], passes: bool) -> None:
    said = why(FilterName.JSON, replace(ASK, hints={"query": json.dumps(query)}))
    assert (said is None) is passes
    assert passes or "query hint" in str(said)


def test_a_query_that_is_no_list_refuses() -> None:
    assert why(FilterName.JSON, replace(ASK, hints={"query": 5})) == "the query hint is a JSON list or its text"
