"""What can be set of each export, checked when the volume actor starts. Knows no daemon."""

from __future__ import annotations

import ipaddress
from enum import StrEnum
from pathlib import Path
from typing import Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator


class Device(StrEnum):
    """What the consumer of a local connection is given: a loop device of its own, or the volume's file."""

    LOOP = "loop"
    PATH = "path"


class Transport(StrEnum):
    """How an NBD consumer comes: `auto` is a Unix socket on this node and TCP from elsewhere."""

    AUTO = "auto"
    UNIX = "unix"
    TCP = "tcp"


class ExportOptions(BaseModel):
    """Options of every export of Pumice; unknown ones are refused. `directory` holds its state (sockets, logs, keys);
    keep it short: the name of a Unix socket has at most 107 bytes."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    directory: Path | None = Field(default=None, description="default: <state dir>/exports/<backend>/<export>")


class LocalOptions(ExportOptions):
    """Options of the export `local`. `cgroups` are those whose processes are held to limits, named relative to where
    cgroups are mounted; none are all."""

    device: Device = Device.LOOP
    cgroups: tuple[str, ...] = ()

    @field_validator("cgroups")
    @classmethod
    def _are_below(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for each in value:
            if not each or each.startswith("/") or ".." in each.split("/"):
                raise ValueError(
                    f"cgroup {each!r} is to be named as system.slice: relative to where cgroups are mounted"
                )
        return value


class NetworkOptions(ExportOptions):
    """Where an export listens. `advertised_address` is what consumers are told; it is needed where `address` means
    every address."""

    address: str = "127.0.0.1"
    advertised_address: str | None = None
    port_first: int = Field(ge=1, le=65535)
    port_last: int = Field(ge=1, le=65535)

    @field_validator("address", "advertised_address")
    @classmethod
    def _is_an_address(cls, value: str | None) -> str | None:
        return value if value is None else str(ipaddress.ip_address(value))

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.port_last < self.port_first:
            raise ValueError(f"port_last {self.port_last} is below port_first {self.port_first}")
        if ipaddress.ip_address(self.address).is_unspecified and self.advertised_address is None:
            raise ValueError(f"address {self.address} is every address; say in advertised_address where to connect")
        return self

    @property
    def is_reachable(self) -> bool:
        """Whether consumers on other nodes can come."""
        return not ipaddress.ip_address(self.address).is_loopback


class NbdOptions(NetworkOptions):
    """Options of the export `nbd`. Every TCP connection takes a port of the range."""

    port_first: int = Field(default=10900, ge=1, le=65535)
    port_last: int = Field(default=11899, ge=1, le=65535)
    transport: Transport = Transport.AUTO


class IscsiOptions(NetworkOptions):
    """Options of the export `iscsi`. One port of the range is taken, and kept."""

    port_first: int = Field(default=3260, ge=1, le=65535)
    port_last: int = Field(default=3299, ge=1, le=65535)
    iqn_prefix: str = Field(
        default="iqn.2026-01.io.pumice", pattern=r"^iqn\.\d{4}-\d{2}\.[a-z0-9-]+(\.[a-z0-9-]+)+$", max_length=120
    )
