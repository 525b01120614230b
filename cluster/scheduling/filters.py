"""The filters: each says why a pool cannot take a volume, or nothing (scheduler facts §3).

A sentence names numbers and wishes, never hosts, so that it may be shown to the volume's owner.
"""

from __future__ import annotations

from typing import Final, Protocol

from cluster.scheduling.capacity import shortage
from cluster.scheduling.errors import ExpressionError, QueryError
from cluster.scheduling.functions import holds
from cluster.scheduling.pool_state import PoolState
from cluster.scheduling.request import Operation, PlacementRequest
from cluster.scheduling.settings import FilterName


class Filter(Protocol):
    """A filter. `concerns` is asked once a request, and `why` then for each pool."""

    @property
    def name(self) -> FilterName: ...

    def concerns(self, request: PlacementRequest, /) -> bool:
        """Whether this filter could refuse any pool for `request`."""
        ...

    def why(self, pool: PoolState, request: PlacementRequest) -> str | None:
        """None when `pool` passes, else why it does not."""
        ...


class IgnoreAttemptedHostsFilter:
    """Leaves out the pools where this request failed already."""

    name = FilterName.IGNORE_ATTEMPTED

    def concerns(self, request: PlacementRequest, /) -> bool:
        return bool(request.exclude_hosts)

    def why(self, pool: PoolState, request: PlacementRequest) -> str | None:
        excluded = request.exclude_hosts
        if pool.host in excluded or pool.service in excluded:
            return "an earlier attempt failed there"
        return None


class AvailabilityZoneFilter:
    """The zone asked for, within the zones that the type allows."""

    name = FilterName.AVAILABILITY_ZONE

    def concerns(self, request: PlacementRequest, /) -> bool:
        return request.zones is not None

    def why(self, pool: PoolState, request: PlacementRequest) -> str | None:
        zones = request.zones
        if zones is None or pool.availability_zone in zones:
            return None
        if not zones:
            return f"the type does not allow the availability zone asked for, {request.availability_zone!r}"
        wanted = ", ".join(sorted(zones))
        return f"its availability zone is {pool.availability_zone!r}; asked for is {wanted}"


class CapacityFilter:
    """Room for the size, or for the growth of an extend. Where the volume is already, there is room."""

    name = FilterName.CAPACITY

    def concerns(self, request: PlacementRequest, /) -> bool:
        return request.asked_gib > 0

    def why(self, pool: PoolState, request: PlacementRequest) -> str | None:
        room = pool.room_thin if request.thin else pool.room_thick
        ratio = pool.max_over_subscription_ratio
        # The common case without a call; the sentence and the odd cases are shortage's.
        if room is not None and room >= request.asked_gib and (ratio == "auto" or ratio >= 1):
            return None
        return None if pool.host == request.exists_on else shortage(pool, request.asked_gib, thin=request.thin)


class CapabilitiesFilter:
    """The type's extra specs, the node labels asked for, and extending while attached."""

    name = FilterName.CAPABILITIES

    def concerns(self, request: PlacementRequest, /) -> bool:
        return bool(request.requirements or request.label_terms) or self._extends_attached(request)

    def why(self, pool: PoolState, request: PlacementRequest) -> str | None:
        for requirement in request.requirements:
            if not requirement.met_by(pool):
                return requirement.why_not(pool)
        for term in request.label_terms:
            if term.selector is None:
                return f"label:{term.key}: {term.error}"
            value = pool.node_labels.get(term.key)
            if not term.selector.matches(value):
                has = "its node has no such label" if value is None else f"its node has {value!r}"
                return f"label:{term.key} {term.text!r} is asked for; {has}"
        if self._extends_attached(request) and pool.capability("online_extend_support") is False:
            return "its backend cannot extend a volume while it is attached; detach it first"
        return None

    @staticmethod
    def _extends_attached(request: PlacementRequest) -> bool:
        return request.attached and request.operation is Operation.EXTEND


class DifferentBackendFilter:
    """The hint different_host: none of these volumes lives there."""

    name = FilterName.DIFFERENT_BACKEND

    def concerns(self, request: PlacementRequest, /) -> bool:
        return request.hints.get("different_host") not in (None, [])

    def why(self, pool: PoolState, request: PlacementRequest) -> str | None:
        if request.different_hosts is None:
            return "the hint different_host must be a volume id or a list of them"
        if pool.host in request.different_hosts or pool.service in request.different_hosts:
            return "a volume of the hint different_host lives there"
        return None


class SameBackendFilter:
    """The hint same_host: at least one of these volumes lives there."""

    name = FilterName.SAME_BACKEND

    def concerns(self, request: PlacementRequest, /) -> bool:
        return request.hints.get("same_host") not in (None, [])

    def why(self, pool: PoolState, request: PlacementRequest) -> str | None:
        if not self.concerns(request):
            return None
        if request.same_hosts is None:
            return "the hint same_host must be a volume id or a list of them"
        if pool.host in request.same_hosts or pool.service in request.same_hosts:
            return None
        return "no volume of the hint same_host lives there"


class DriverFilter:
    """The pool's own filter_function, with any spelling of its storage protocol. One that fails refuses."""

    name = FilterName.DRIVER

    def concerns(self, _request: PlacementRequest, /) -> bool:
        return True

    def why(self, pool: PoolState, request: PlacementRequest) -> str | None:
        function = pool.filter_function
        if function is None:
            return None
        try:
            if holds(function, pool, request):
                return None
        except ExpressionError as error:
            return f"its filter_function failed: {error}"
        return f"its filter_function is false for this volume of {request.size_gib} GiB; see the pool's stats"


class JsonFilter:
    """The hint query. `$name` is a capability, `host`, or `capabilities.<name>`."""

    name = FilterName.JSON

    def concerns(self, request: PlacementRequest, /) -> bool:
        return bool(request.hints.get("query"))

    def why(self, pool: PoolState, request: PlacementRequest) -> str | None:
        def look_up(name: str) -> object:
            if name in ("host", "backend_id"):
                return pool.host
            return pool.stats() if name == "capabilities" else pool.capability(name.removeprefix("capabilities."))

        try:
            query = request.query
            return None if query is None or query(look_up) else "the query hint is false for it"
        except QueryError as error:
            return str(error)


FILTERS: Final[dict[FilterName, Filter]] = {
    known.name: known
    for known in (
        IgnoreAttemptedHostsFilter(),
        AvailabilityZoneFilter(),
        CapacityFilter(),
        CapabilitiesFilter(),
        DifferentBackendFilter(),
        SameBackendFilter(),
        DriverFilter(),
        JsonFilter(),
    )
}
