"""One pool as the scheduler sees it: what its backend reported, less what has been promised since.

Knows nothing of how a state came about (scheduler.py) nor of the maths on it (capacity.py).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Final

from cluster.scheduling.capacity import Gib, OverSubscription, virtual_free_gib
from cluster.scheduling.host_name import HostName
from drivers.vocabulary import Capabilities, PoolReport

# Spellings of one protocol, the one shown to clients first (scheduler facts §10).
_PROTOCOLS: Final = (
    ("iSCSI", "iscsi"),
    ("FC", "fibre_channel", "fc"),
    ("NFS", "nfs"),
    ("NVMe-oF", "nvmeof", "NVMeOF"),
)
_VARIANTS: Final = {spelling: variants for variants in _PROTOCOLS for spelling in variants}


def protocol_variants(protocol: str) -> tuple[str, ...]:
    """All spellings treated as equal to `protocol`, the canonical one first; itself alone when it has no others."""
    return _VARIANTS.get(protocol, (protocol,))


@dataclass(frozen=True)
class PoolState:
    """A pool. `host` is `host@backend#pool`; capacities are GiB.

    `free_gib` None means that the backend did not say. `allocated_gib` is the sum of our volumes there,
    `provisioned_gib` the backend's own count where it has one, else the same. `capabilities` holds what does not
    change between reports; `reported_at` is a wire time.
    """

    host: str
    backend_name: str
    availability_zone: str
    total_gib: Gib
    free_gib: Gib | None
    service_up: bool = True
    service_enabled: bool = True
    node_labels: Mapping[str, str] = field(default_factory=dict)
    allocated_gib: float = 0
    provisioned_gib: float = 0
    backend_counts_provisioned: bool = False
    reserved_percentage: int = 0
    max_over_subscription_ratio: OverSubscription = 20.0
    thin_support: bool = False
    thick_support: bool = True
    volume_count: int = 0
    filter_function: str | None = None
    goodness_function: str | None = None
    capabilities: Mapping[str, object] = field(default_factory=dict)
    reported_at: str | None = None

    @classmethod
    def of_report(
        cls,
        service: str,
        report: PoolReport,
        *,
        backend_name: str,
        availability_zone: str,
        node_labels: Mapping[str, str] | None = None,
        service_up: bool = True,
        service_enabled: bool = True,
        reported_at: str | None = None,
    ) -> PoolState:
        """The state of a pool of `service` (`host@backend`) from its report, before anything is counted on it.

        An infinite or NaN capacity becomes "infinite" or "unknown". Raises HostNameError for an unusable name.
        """
        can = report.capabilities
        provisioned = can.extra.get("provisioned_capacity_gb")
        return cls(
            host=str(HostName.parse(f"{service}#{report.name}")),
            backend_name=backend_name,
            availability_zone=availability_zone,
            total_gib=_gib(report.total_gib),
            free_gib=_gib(report.free_gib),
            service_up=service_up,
            service_enabled=service_enabled,
            node_labels=dict(node_labels or {}),
            provisioned_gib=float(provisioned) if isinstance(provisioned, (int, float)) else 0,
            backend_counts_provisioned=isinstance(provisioned, (int, float)),
            reserved_percentage=report.reserved_percentage,
            max_over_subscription_ratio=report.max_over_subscription_ratio,
            thin_support=can.thin,
            thick_support=bool(can.extra.get("thick_provisioning_support", not can.thin)),
            filter_function=report.filter_function,
            goodness_function=report.goodness_function,
            capabilities=_lasting(can),
            reported_at=reported_at,
        )

    def with_usage(self, *, allocated_gib: float, unreported_gib: float, volume_count: int) -> PoolState:
        """This reported state with our volumes counted on it. `unreported_gib` was promised after the report."""
        free = self.free_gib
        if isinstance(free, (int, float)):
            free = max(0.0, free - unreported_gib)
        counted = self.backend_counts_provisioned
        provisioned = self.provisioned_gib + unreported_gib if counted else allocated_gib
        return replace(
            self,
            free_gib=free,
            allocated_gib=allocated_gib,
            provisioned_gib=max(0.0, provisioned),
            volume_count=volume_count,
        )

    def with_service(self, *, up: bool, enabled: bool) -> PoolState:
        """This state with its service up or down, enabled or disabled."""
        return replace(self, service_up=up, service_enabled=enabled)

    @cached_property
    def service(self) -> str:
        """`host@backend`."""
        return self.host.partition("#")[0]

    @cached_property
    def room_thin(self) -> float | None:
        """What may still be promised to thin volumes, GiB; None when its capacity is not a number."""
        return virtual_free_gib(self, thin=True)

    @cached_property
    def room_thick(self) -> float | None:
        """The same for thick volumes."""
        return virtual_free_gib(self, thin=False)

    @property
    def host_name(self) -> str:
        """The host part alone."""
        return self.service.partition("@")[0]

    @property
    def pool_name(self) -> str:
        """The pool part alone."""
        return self.host.partition("#")[2]

    def capability(self, name: str) -> object:
        """One entry of `stats()` without building it; None when there is no such capability."""
        lasting = self.capabilities.get(name)
        if lasting is not None:
            return lasting
        measured = _MEASURED.get(name)
        if measured is not None:
            return measured(self)
        return self.node_labels.get(name[6:]) if name.startswith("label:") else None

    def stats(self) -> dict[str, object]:
        """The capabilities document of Cinder's get_pools, node labels as `label:<key>`."""
        document = dict(self.capabilities)
        document.update((name, read(self)) for name, read in _MEASURED.items())
        document.update((f"label:{key}", value) for key, value in self.node_labels.items())
        return document


_MEASURED: Final[dict[str, Callable[[PoolState], object]]] = {
    "volume_backend_name": lambda pool: pool.backend_name,
    "pool_name": lambda pool: pool.pool_name,
    "total_capacity_gb": lambda pool: pool.total_gib,
    "free_capacity_gb": lambda pool: pool.free_gib,
    "allocated_capacity_gb": lambda pool: pool.allocated_gib,
    "provisioned_capacity_gb": lambda pool: pool.provisioned_gib,
    "reserved_percentage": lambda pool: pool.reserved_percentage,
    "max_over_subscription_ratio": lambda pool: pool.max_over_subscription_ratio,
    "thin_provisioning_support": lambda pool: pool.thin_support,
    "thick_provisioning_support": lambda pool: pool.thick_support,
    "total_volumes": lambda pool: pool.volume_count,
    "filter_function": lambda pool: pool.filter_function,
    "goodness_function": lambda pool: pool.goodness_function,
    "backend_state": lambda pool: "up" if pool.service_up else "down",
    "timestamp": lambda pool: pool.reported_at,
}


def _gib(value: float) -> Gib:
    if math.isfinite(value):
        return value
    return "infinite" if value > 0 else "unknown"


def _lasting(can: Capabilities) -> dict[str, object]:
    """Capabilities that a report sets once. What a driver adds of its own cannot displace them."""
    return {
        "QoS_support": False,
        **{name: value for name, value in can.extra.items() if name not in _MEASURED and ":" not in name},
        "vendor_name": can.vendor_name,
        "driver_version": can.driver_version,
        "storage_protocol": _protocol(can),
        "multiattach": can.multiattach,
        "online_extend_support": can.online_extend,
    }


def _protocol(can: Capabilities) -> object:
    """The protocol, or all of them when there are several, as Cinder's drivers may report it."""
    names = tuple(protocol_variants(name)[0] for name in can.protocols or (can.storage_protocol,))
    return names if len(names) > 1 else names[0]
