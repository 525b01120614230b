"""What was chosen for a node: as its labels say it, and as its directory remembers it for the volume actors."""

from __future__ import annotations

import ipaddress
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final, Self

from cluster.settings import SettingsError
from cluster.settings_file import write_private
from cluster.storage_network.settings import AllowListMode

INTERFACE: Final = "pumice.io/storage-interface"
ADDRESS: Final = "pumice.io/storage-address"
MTU: Final = "pumice.io/storage-mtu"
SPEED: Final = "pumice.io/storage-speed-mbps"
_LOOPBACK: Final = "127.0.0.1"


@dataclass(frozen=True, slots=True)
class Chosen:
    """The storage network of one node. `interface` and `mtu` (bytes) are None when `address` is none of this machine's,
    `speed_mbps` (10^6 bit/s) when nobody knows it."""

    interface: str | None
    address: str
    mtu: int | None
    speed_mbps: int | None
    allow_list: AllowListMode

    @property
    def is_elsewhere(self) -> bool:
        """Whether the address is none of this machine's (NAT, one that moves), so that nothing can listen on it."""
        return self.interface is None and not ipaddress.ip_address(self.address).is_loopback

    @property
    def listens(self) -> str:
        """Where exports listen that are told no address of their own: loopback when the node's own is elsewhere."""
        return _LOOPBACK if self.is_elsewhere else self.address

    @property
    def labels(self) -> dict[str, str]:
        """Its labels; none for what is not known. A label has no colon, so an IPv6 address is its eight groups with
        dashes; other signs that a label cannot have become dashes as well."""
        named = re.sub(r"[^A-Za-z0-9_.-]", "-", self.interface or "")[:63].strip("_.-")
        said = {INTERFACE: named, ADDRESS: address_label(self.address), MTU: self.mtu, SPEED: self.speed_mbps}
        return {key: str(value) for key, value in said.items() if value}

    @property
    def capabilities(self) -> dict[str, str | int | float | bool]:
        """What the scheduler can be asked for: extra specs such as `storage_speed_mbps` = `>= 10000`."""
        said = {
            "storage_interface": self.interface,
            "storage_address": self.address,
            "storage_mtu": self.mtu,
            "storage_speed_mbps": self.speed_mbps,
        }
        return {key: value for key, value in said.items() if value is not None}

    def write(self, state_dir: Path) -> None:
        """Remember it. Raises OSError."""
        write_private(_path(state_dir), json.dumps(asdict(self), indent=1) + "\n")

    @classmethod
    def read(cls, state_dir: Path) -> Self | None:
        """What the node's directory remembers; None where it was never chosen. Raises SettingsError when it cannot be
        read: a guess could let in whom the settings keep out."""
        path = _path(state_dir)
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
            return cls(**{**found, "allow_list": AllowListMode(found["allow_list"])})
        except FileNotFoundError:
            return None
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise SettingsError(
                f"{path}, which says what exports listen on, cannot be read ({type(error).__name__}: {error}); "
                "start the node anew, which writes it"
            ) from error


def address_label(address: str) -> str:
    """An address as the value of a label."""
    found = ipaddress.ip_address(address)
    return str(found) if found.version == 4 else "-".join(f"{int(part, 16):x}" for part in found.exploded.split(":"))


def address_of(labels: Mapping[str, str]) -> str | None:
    """The address that a node's labels tell of, or None."""
    said = labels.get(ADDRESS)
    try:
        return None if said is None else str(ipaddress.ip_address(said.replace("-", ":")))
    except ValueError:
        return None


def _path(state_dir: Path) -> Path:
    return state_dir / "run" / "network.json"
