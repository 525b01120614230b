"""The shape of availability zones."""

from __future__ import annotations

from pydantic import BaseModel, Field


class ZoneState(BaseModel):
    """Whether volumes can be made there."""

    available: bool


class Zone(BaseModel):
    """A zone."""

    zone_name: str = Field(alias="zoneName")
    zone_state: ZoneState = Field(alias="zoneState")


class ZonesReply(BaseModel):
    """Zones."""

    availability_zone_info: list[Zone] = Field(alias="availabilityZoneInfo")
