"""Operators and scopes of extra specs, by Cinder's table."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.scheduling.extra_specs import (
    label_terms,
    matcher,
    requirements,
    size_limits_gib,
    wants_thin,
    zones,
)
from cluster.scheduling.pool_state import PoolState

POOL = PoolState(
    host="h@b#p",
    backend_name="gold",
    availability_zone="nova",
    total_gib=100.0,
    free_gib=50.0,
    thin_support=True,
    node_labels={"disk": "nvme"},
    capabilities={
        "storage_protocol": "iSCSI",
        "multiattach": True,
        "tiers": ["gold", "silver"],
        "nested": {"inner": {"deep": "5"}},
    },
)


@pytest.mark.parametrize(
    ("capability", "wanted", "matched"),
    [
        # "=" is at least.
        (5, "= 4", True),
        ("5", "= 5", True),
        (3, "= 4", False),
        (5, ">= 5", True),
        (4.9, ">= 5", False),
        (5, "== 5.0", True),
        (5, "== 6", False),
        (5, "!= 6", True),
        (5, "!= 5", False),
        (5, "<= 5", True),
        (6, "<= 5", False),
        ("infinite", ">= 5", False),
        ("x", "== 5", False),
        (5, "== x", False),
        ("x", "!= 5", False),
        # Members and parts.
        ("abcdef", "<in> cd", True),
        ("abcdef", "<in> ce", False),
        (["abc", "def"], "<in> de", True),
        (12, "<in> 1", False),
        # Truth values.
        (True, "<is> True", True),
        (True, "<is> yes", True),
        ("on", "<is> 1", True),
        (False, "<is> True", False),
        (False, "<is> False", True),
        ("anything", "<is> False", True),
        # Text.
        ("5", "s== 5", True),
        ("5", "s== 05", False),
        ("b", "s!= a", True),
        ("a", "s!= a", False),
        ("a", "s< b", True),
        ("b", "s<= b", True),
        ("c", "s> b", True),
        ("b", "s>= b", True),
        ("a", "s>= b", False),
        (5, "s< 6", False),
        # One of several.
        ("b", "<or> a <or> b", True),
        ("c", "<or> a <or> b", False),
        ("a", "<or> a", True),
        ("", "<or>", False),
        (["x", "b"], "<or> a <or> b", True),
        # No operator: the very same value.
        ("gold", "gold", True),
        ("gold", "silver", False),
        (True, "True", False),
        (5, "5", False),
        ("a b", "a b", True),
        ("", "", True),
        (["x", "gold"], "gold", True),
        ([], "gold", False),
        # Operators that Cinder does not have are plain text.
        (["a", "b"], "<all-in> a b", False),
        ("<all-in> a", "<all-in> a", True),
        # An operator without an operand, and a capability that is not there.
        ("5", "s==", False),
        (5, "==", False),
        (None, "<is> False", False),
        (None, "s!= a", False),
        (None, "x", False),
    ],
)
def test_operator(capability: object, wanted: str, matched: bool) -> None:
    assert matcher(wanted)(capability) is matched


def met(**specs: str) -> bool:
    return all(requirement.met_by(POOL) for requirement in requirements(specs))


@pytest.mark.parametrize(
    ("key", "wanted", "passes"),
    [
        ("volume_backend_name", "gold", True),
        ("volume_backend_name", "silver", False),
        ("capabilities:volume_backend_name", "gold", True),
        ("multiattach", "<is> True", True),
        ("capabilities:multiattach", "<is> False", False),
        ("thin_provisioning_support", "<is> True", True),
        ("free_capacity_gb", ">= 50", True),
        ("free_capacity_gb", ">= 51", False),
        ("tiers", "silver", True),
        ("capabilities:nested:inner:deep", "== 5", True),
        ("capabilities:nested:inner", "x", False),
        ("capabilities:nested:missing:deep", "x", False),
        ("capabilities:multiattach:deep", "x", False),
        ("missing", "<is> False", False),
        ("capabilities", "x", False),
        # Other scopes are other people's.
        ("nested:inner:deep", "6", True),
        ("RESKEY:availability_zones", "elsewhere", True),
        ("provisioning:type", "thick", True),
        ("provisioning:max_vol_size", "1", True),
        ("label:disk", "hdd", True),
        ("capabilities:label:disk", "hdd", True),
    ],
)
def test_scope_and_path(key: str, wanted: str, passes: bool) -> None:
    assert met(**{key: wanted}) is passes


@pytest.mark.parametrize("reported", ["NVMe-oF", "nvmeof", "NVMeOF"])
@pytest.mark.parametrize("wanted", ["NVMe-oF", "s== nvmeof", "<in> NVMeOF", "<or> x <or> nvmeof"])
def test_spellings_of_a_protocol_are_equal(reported: str, wanted: str) -> None:
    pool = replace(POOL, capabilities={"storage_protocol": reported})
    (requirement,) = requirements({"storage_protocol": wanted})
    assert requirement.met_by(pool)
    (other,) = requirements({"storage_protocol": "iSCSI"})
    assert not other.met_by(pool)


@pytest.mark.parametrize("reported", [("nbd", "iSCSI"), ["nbd", "iSCSI"]])
@pytest.mark.parametrize(
    ("wanted", "passes"),
    [("nbd", True), ("iscsi", True), ("<in> iSCSI", True), ("<or> NFS <or> nbd", True), ("NFS", False)],
)
def test_a_pool_of_several_protocols_has_each(reported: object, wanted: str, passes: bool) -> None:
    pool = replace(POOL, capabilities={"storage_protocol": reported})
    (requirement,) = requirements({"storage_protocol": wanted})
    assert requirement.met_by(pool) is passes


def test_answers_are_remembered_by_type_too() -> None:
    # 1, True and 1.0 are one key of a dict; "<is>" reads 1.0 as false.
    (requirement,) = requirements({"x": "<is> True"})
    answers = [requirement.met_by(replace(POOL, capabilities={"x": value})) for value in (1, True, 1.0, 1)]
    assert answers == [True, True, False, True]


def test_a_refusal_says_what_the_pool_has_instead() -> None:
    wish, truth, absent = requirements({"volume_backend_name": "silver", "multiattach": "True", "missing": "x"})
    assert wish.why_not(POOL) == "the type asks for volume_backend_name 'silver', and the pool has 'gold'"
    assert truth.why_not(POOL).endswith("and the pool has True; write '<is> True'")
    assert absent.why_not(POOL).endswith("reports no such capability")


def test_labels_are_taken_from_either_spelling() -> None:
    specs = {"label:a": "x", "capabilities:label:b/c": "!y", "volume_backend_name": "gold"}
    assert label_terms(specs) == (("a", "x"), ("b/c", "!y"))


def test_well_known_specs() -> None:
    assert zones({"RESKEY:availability_zones": "a, b,,"}) == {"a", "b"}
    assert zones({}) == frozenset()
    assert wants_thin({})
    assert wants_thin({"provisioning:type": "thin"})
    assert not wants_thin({"provisioning:type": "thick"})
    assert size_limits_gib({"provisioning:min_vol_size": "5", "provisioning:max_vol_size": "x"}) == (5, None)


@given(st.text(max_size=30), st.one_of(st.none(), st.booleans(), st.floats(), st.text(), st.lists(st.text())))
def test_no_spec_raises(wanted: str, capability: object) -> None:
    assert matcher(wanted)(capability) in (True, False)
