"""What QoS specs mean for a volume of a certain size: the limits, and what its consumer's host is told.

Keys as Cinder's users write them for Nova: `total_iops_sec`, `read_bytes_sec` and so on; with `_per_gb` the value is
for each GiB, at least `…_per_gb_min`, at most `…_max`. Keys that are none of these are passed on as they are.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from cluster.qos_specs.records import Consumer
from drivers.vocabulary import UNLIMITED, Limits

_LIMITS: Final = {
    f"{kind}_{unit}_sec": f"{kind}_{unit}" for unit in ("iops", "bytes") for kind in ("total", "read", "write")
}


def scaled(specs: Mapping[str, str], size_gib: int) -> dict[str, str | int]:
    """The specs with every `_per_gb` worked out for a volume of `size_gib` GiB. What is no number stays."""
    answer: dict[str, str | int] = dict(specs)
    for name in _LIMITS:
        each = _number(answer.get(f"{name}_per_gb"))
        if each is None:
            continue
        least = _number(answer.pop(f"{name}_per_gb_min", None)) or 0
        value = max(least, each * size_gib)
        most = _number(answer.pop(f"{name}_max", None))
        answer[name] = value if most is None else min(value, most)
        del answer[f"{name}_per_gb"]
    return answer


def back_end(consumer: str, specs: Mapping[str, str], size_gib: int) -> Limits:
    """What the export sees to: nothing when the consumer's side alone is to (`front-end`). Where both a total and a
    part of it are given, the total counts."""
    if consumer == Consumer.FRONT_END:
        return UNLIMITED
    asked = scaled(specs, size_gib)
    values = {field: _number(asked.get(name)) or None for name, field in _LIMITS.items()}
    for unit in ("iops", "bytes"):
        if values[f"total_{unit}"] is not None:
            values[f"read_{unit}"] = values[f"write_{unit}"] = None
    return Limits(**values)


def front_end(consumer: str, specs: Mapping[str, str], size_gib: int) -> dict[str, str | int] | None:
    """What the consumer's host is told (`qos_specs` of the connection info); None when the export alone sees to it."""
    return None if consumer == Consumer.BACK_END else scaled(specs, size_gib)


def _number(value: str | int | None) -> int | None:
    if isinstance(value, str):
        return int(value) if value.isascii() and value.isdecimal() and len(value) < 19 else None
    return value
