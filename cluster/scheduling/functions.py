"""What the names in a pool's filter and goodness functions stand for (scheduler facts §7)."""

from __future__ import annotations

from functools import partial
from typing import Final

from cluster.scheduling.expressions import Value, evaluate
from cluster.scheduling.pool_state import PoolState, protocol_variants
from cluster.scheduling.request import PlacementRequest

# Members of `stats.*` that are capabilities under the same name.
_STATS: Final = frozenset(
    {
        "volume_backend_name",
        "vendor_name",
        "driver_version",
        "storage_protocol",
        "QoS_support",
        "total_capacity_gb",
        "allocated_capacity_gb",
        "free_capacity_gb",
        "reserved_percentage",
    }
)


def work_out(function: str, pool: PoolState, request: PlacementRequest) -> Value:
    """The value of `function` for this pool and request. Raises ExpressionError."""
    return evaluate(function, partial(_resolve, pool, request))


def holds(function: str, pool: PoolState, request: PlacementRequest) -> bool:
    """Whether `function` is true for this pool with any spelling of its storage protocol. Raises ExpressionError."""
    if "storage_protocol" not in function:
        return bool(work_out(function, pool, request))
    variants = protocol_variants(str(pool.capability("storage_protocol")))
    return any(evaluate(function, partial(_resolve, pool, request, protocol=variant)) for variant in variants)


def _resolve(
    pool: PoolState, request: PlacementRequest, namespace: str, name: str, protocol: str | None = None
) -> object:
    if namespace == "volume":
        if name == "size":
            return request.volume_properties.get("size", request.size_gib)
        return request.volume_properties[name]
    if namespace == "extra":
        return request.extra_specs[name]
    if namespace == "qos":
        return request.qos_specs[name]
    if protocol is not None and name == "storage_protocol":
        return protocol
    return _stat(pool, name) if namespace == "stats" else _present(pool.capability(name), name)


def _stat(pool: PoolState, name: str) -> object:
    if name in _STATS:
        return pool.capability(name)
    if name in ("host", "backend_id"):
        return pool.host
    if name == "updated":
        return pool.reported_at
    raise KeyError(name)


def _present(value: object, name: str) -> object:
    if value is None:
        raise KeyError(name)
    return value
