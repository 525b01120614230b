"""How decisions are made: which filters and weighers take part, and with what weight. Frozen; defaults are Cinder's.

All filters are on where Cinder's default has three: the others pass every pool until a hint, a filter function or a
failed attempt gives them something to say.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum


class FilterName(StrEnum):
    """Cinder's names of the filters, in the order in which they are asked."""

    IGNORE_ATTEMPTED = "IgnoreAttemptedHostsFilter"
    AVAILABILITY_ZONE = "AvailabilityZoneFilter"
    CAPACITY = "CapacityFilter"
    CAPABILITIES = "CapabilitiesFilter"
    DIFFERENT_BACKEND = "DifferentBackendFilter"
    SAME_BACKEND = "SameBackendFilter"
    DRIVER = "DriverFilter"
    JSON = "JsonFilter"


class WeigherName(StrEnum):
    """Cinder's names of the weighers."""

    CAPACITY = "CapacityWeigher"
    ALLOCATED_CAPACITY = "AllocatedCapacityWeigher"
    VOLUME_NUMBER = "VolumeNumberWeigher"
    GOODNESS = "GoodnessWeigher"
    CHANCE = "ChanceWeigher"


class Pick(StrEnum):
    """BEST takes the highest sum of normalised weights; STOCHASTIC draws in proportion to the raw sums."""

    BEST = "best"
    STOCHASTIC = "stochastic"


@dataclass(frozen=True, slots=True)
class WeigherSettings:
    """The weighers that take part and their multipliers (Cinder's defaults; 0 turns one off, a negative one stacks
    where a positive one spreads, and the other way round for the two that count what is there)."""

    enabled: tuple[WeigherName, ...] = (WeigherName.CAPACITY,)
    capacity: float = 1.0
    allocated_capacity: float = -1.0
    volume_number: float = -1.0
    goodness: float = 1.0
    chance: float = 1.0
    pick: Pick = Pick.BEST

    @classmethod
    def of_multipliers(
        cls,
        *,
        capacity: float = 0.0,
        allocated_capacity: float = 0.0,
        volume_number: float = 0.0,
        goodness: float = 0.0,
    ) -> WeigherSettings:
        """Settings in which exactly the weighers with a multiplier other than 0 take part."""
        given = {
            WeigherName.CAPACITY: capacity,
            WeigherName.ALLOCATED_CAPACITY: allocated_capacity,
            WeigherName.VOLUME_NUMBER: volume_number,
            WeigherName.GOODNESS: goodness,
        }
        return cls(
            enabled=tuple(name for name, multiplier in given.items() if multiplier),
            capacity=capacity,
            allocated_capacity=allocated_capacity,
            volume_number=volume_number,
            goodness=goodness,
        )


@dataclass(frozen=True, slots=True)
class SchedulingSettings:
    """Everything a decision is made with. `reservation_grace_seconds`: how long a promise that no record shows yet is
    kept when the ledger is rebuilt."""

    filters: tuple[FilterName, ...] = tuple(FilterName)
    weighers: WeigherSettings = field(default_factory=WeigherSettings)
    reservation_grace_seconds: float = 300.0
