"""What can be set of a node's storage network, and how a node's own settings and the instance's become one."""

from __future__ import annotations

import ipaddress
import re
from enum import StrEnum
from typing import Final, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

# What the kernel takes for an alternative name (ALTIFNAMSIZ, 127 bytes); a first name is shorter.
_INTERFACE: Final = re.compile(r"[^\s/]{1,127}")
_LABEL_KEY: Final = re.compile(r"([a-z0-9.-]{1,253}/)?[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?")
_WHICH: Final = ("interface", "subnet", "label")


class AllowListMode(StrEnum):
    """Whether the kernel lets nobody but the attached node reach an export's port: always (a connection whose rule
    cannot be made is refused), where this node can, or never."""

    REQUIRED = "required"
    WHERE_POSSIBLE = "where-possible"
    OFF = "off"


class StorageNetworkSettings(BaseModel):
    """Which address of a node exports use: that of `interface` (by any of its names), the one in `subnet`, or that of
    the interface which the node's label `label` names; without any, the one by which the cluster knows the node.
    `speed_mbps` (10^6 bit/s) is for interfaces whose speed the kernel does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    interface: str | None = None
    subnet: str | None = None
    label: str | None = None
    speed_mbps: int | None = Field(default=None, ge=1, le=10_000_000)
    allow_list: AllowListMode = AllowListMode.WHERE_POSSIBLE

    @field_validator("interface")
    @classmethod
    def _names(cls, value: str | None) -> str | None:
        if value is not None and not _INTERFACE.fullmatch(value):
            raise ValueError(f"{value!r} is no name of an interface")
        return value

    @field_validator("subnet")
    @classmethod
    def _subnets(cls, value: str | None) -> str | None:
        if value is None:
            return None
        try:
            return str(ipaddress.ip_network(value, strict=False))
        except ValueError:
            raise ValueError(f"{value!r} is no subnet; write it as 10.2.0.0/24 or fd00:2::/64") from None

    @field_validator("label")
    @classmethod
    def _labels(cls, value: str | None) -> str | None:
        if value is not None and not _LABEL_KEY.fullmatch(value):
            raise ValueError(f"{value!r} is no key of a label")
        return value

    @model_validator(mode="after")
    def _one_way_of_choosing(self) -> Self:
        given = [name for name in _WHICH if getattr(self, name) is not None]
        if len(given) > 1:
            raise ValueError(f"{' and '.join(given)} are given; one of them chooses the address")
        return self

    def under(self, instance: StorageNetworkSettings) -> StorageNetworkSettings:
        """These settings of one node, with the instance's for what the node says nothing of."""
        mine = {name: getattr(self, name) for name in self.model_fields_set}
        theirs = {name: getattr(instance, name) for name in instance.model_fields_set}
        if any(mine.get(name) is not None for name in _WHICH):
            theirs = {name: value for name, value in theirs.items() if name not in _WHICH}
        return StorageNetworkSettings(**{**theirs, **mine})
