"""A pool's state, from its report to what get_pools shows."""

from __future__ import annotations

import math

import pytest

from cluster.scheduling.errors import HostNameError
from cluster.scheduling.pool_state import PoolState
from drivers.vocabulary import Capabilities, PoolReport


def report(name: str = "p", total: float = 100.0, free: float = 60.0, **extra: str | float | bool) -> PoolReport:
    can = Capabilities("iscsi", "Pumice", "1.0", thin=True, shares_extents=True, multiattach=True, extra=dict(extra))
    return PoolReport(name, total, free, can, reserved_percentage=5, filter_function="1", goodness_function="2")


def state(given: PoolReport, service: str = "h@b") -> PoolState:
    return PoolState.of_report(
        service,
        given,
        backend_name="gold",
        availability_zone="nova",
        node_labels={"ray.io/zone": "z1"},
        reported_at="2026-01-01T00:00:00.000000",
    )


def test_the_document_of_get_pools() -> None:
    pool = state(report(tier="a")).with_usage(allocated_gib=30, unreported_gib=10, volume_count=2)
    assert (pool.host, pool.host_name, pool.service, pool.pool_name) == ("h@b#p", "h", "h@b", "p")
    assert pool.stats() == {
        "volume_backend_name": "gold",
        "pool_name": "p",
        "vendor_name": "Pumice",
        "driver_version": "1.0",
        "storage_protocol": "iSCSI",
        "total_capacity_gb": 100.0,
        "free_capacity_gb": 50.0,
        "allocated_capacity_gb": 30,
        "provisioned_capacity_gb": 30,
        "reserved_percentage": 5,
        "max_over_subscription_ratio": 20.0,
        "thin_provisioning_support": True,
        "thick_provisioning_support": False,
        "multiattach": True,
        "online_extend_support": True,
        "QoS_support": False,
        "total_volumes": 2,
        "filter_function": "1",
        "goodness_function": "2",
        "backend_state": "up",
        "timestamp": "2026-01-01T00:00:00.000000",
        "tier": "a",
        "label:ray.io/zone": "z1",
    }


def test_one_capability_is_what_the_document_says_of_it() -> None:
    pool = state(report(tier="a"))
    assert {name: pool.capability(name) for name in pool.stats()} == pool.stats()
    assert pool.capability("missing") is None
    assert pool.capability("label:missing") is None


def test_capacities_that_are_no_numbers() -> None:
    pool = state(report(total=math.inf, free=math.nan))
    assert (pool.total_gib, pool.free_gib) == ("infinite", "unknown")
    used = pool.with_usage(allocated_gib=5, unreported_gib=5, volume_count=1)
    assert (used.total_gib, used.free_gib) == ("infinite", "unknown")


def test_free_room_does_not_fall_below_nothing() -> None:
    used = state(report(free=3.0)).with_usage(allocated_gib=50, unreported_gib=50, volume_count=1)
    assert used.free_gib == 0


def test_a_backend_that_counts_for_itself_is_believed() -> None:
    pool = state(report(provisioned_capacity_gb=70))
    used = pool.with_usage(allocated_gib=30, unreported_gib=10, volume_count=2)
    assert (used.allocated_gib, used.provisioned_gib) == (30, 80)


def test_a_driver_cannot_displace_what_is_measured() -> None:
    pool = state(report(total_capacity_gb=1, vendor_name="x", thick_provisioning_support=True))
    assert pool.capability("total_capacity_gb") == 100.0
    assert pool.capability("vendor_name") == "Pumice"
    assert pool.thick_support


def test_a_name_that_is_none_is_refused() -> None:
    with pytest.raises(HostNameError):
        state(report(name=""))


def test_service_state() -> None:
    down = state(report()).with_service(up=False, enabled=True)
    assert (down.service_up, down.service_enabled, down.stats()["backend_state"]) == (False, True, "down")
