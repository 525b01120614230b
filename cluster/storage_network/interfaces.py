"""The network interfaces of this machine (of this network namespace), as the kernel tells of them over netlink.

Blocking calls. pyroute2 is loaded when it is first needed, and given an event loop of its own: under the one that Ray
sets for its workers (uvloop) its sockets do not open. Speeds are asked for by ethtool and not read from /sys, which in
a namespace may be that of another. `route()` is for whoever else in this process speaks to the kernel.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import ipaddress
import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

IpAddress = ipaddress.IPv4Address | ipaddress.IPv6Address

_SECONDS: Final = 60.0
_IFF_UP: Final = 0x1
# Of an address: a second one of its subnet, or (IPv6) one that changes for privacy; not yet or never usable.
_IFA_UNFIT: Final = 0x01 | 0x08 | 0x40
_SCOPE_LINK: Final = 253
_SPEED_UNKNOWN: Final = (0, 0xFFFF, 0xFFFFFFFF)
# The kernel makes their speed up.
_MADE_UP: Final = frozenset({"veth", "tun", "dummy", "netkit"})


@dataclass(frozen=True, slots=True)
class Interface:
    """`names` are its own and its alternative ones; `addresses` those that a service can listen on and keep (none of a
    single link, no temporary ones). `speed_mbps` (10^6 bit/s) is None where nobody knows it."""

    names: tuple[str, ...]
    is_up: bool
    mtu: int
    addresses: tuple[IpAddress, ...]
    speed_mbps: int | None = None

    @property
    def name(self) -> str:
        """Its own name."""
        return self.names[0]

    def __str__(self) -> str:
        """As errors list it: `eth1 (down) 10.2.0.5, fd00::5`."""
        state = "" if self.is_up else " (down)"
        return f"{self.name}{state} {', '.join(map(str, self.addresses)) or '(no address)'}"


@contextlib.contextmanager
def route() -> Iterator[Any]:
    """pyroute2's IPRoute, for a thread in which no event loop runs; the process may have set any policy."""
    from pyroute2 import IPRoute

    loop = asyncio.SelectorEventLoop()
    try:
        with IPRoute(use_event_loop=loop) as opened:
            yield opened
    finally:
        loop.close()


def interfaces() -> list[Interface]:
    """All of them. Raises OSError."""
    with route() as kernel:
        links = list(kernel.get_links())
        addresses = list(kernel.get_addr())
    return [_interface(link, [one for one in addresses if one["index"] == link["index"]]) for link in links]


def asked() -> list[Interface]:
    """The same, by a process of its own: pyroute2 takes 8 MB, which one that stays can do without. Raises OSError."""
    try:
        done = subprocess.run(
            [sys.executable, "-m", __name__], cwd="/", capture_output=True, text=True, timeout=_SECONDS, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise OSError(errno.ETIMEDOUT, f"the network's interfaces were not read within {_SECONDS:g} s") from error
    if done.returncode != 0:
        lines = done.stderr.strip().splitlines()
        raise OSError(errno.EIO, f"the network's interfaces cannot be read: {lines[-1] if lines else done.returncode}")
    return [
        Interface(tuple(names), up, mtu, tuple(map(ipaddress.ip_address, addresses)), speed)
        for names, up, mtu, addresses, speed in json.loads(done.stdout)
    ]


def _said() -> str:
    there = interfaces()
    return json.dumps([(one.names, one.is_up, one.mtu, [*map(str, one.addresses)], one.speed_mbps) for one in there])


def _interface(link: Any, addresses: list[Any]) -> Interface:
    name = str(link.get("ifname"))
    others = link.get_attr("IFLA_PROP_LIST")
    kind = link.get_nested("IFLA_LINKINFO", "IFLA_INFO_KIND")
    return Interface(
        (name, *(str(other) for other in (others.get_attrs("IFLA_ALT_IFNAME") if others is not None else ()))),
        bool(link["flags"] & _IFF_UP),
        int(link.get("mtu")),
        tuple(
            ipaddress.ip_address(one.get("local") or one.get("address"))
            for one in addresses
            if not (one.get("flags") or 0) & _IFA_UNFIT and one["scope"] != _SCOPE_LINK
        ),
        None if kind in _MADE_UP else _speed_mbps(name),
    )


def _speed_mbps(name: str) -> int | None:
    from pyroute2.ethtool.ioctl import EthtoolError, IoctlEthtool

    try:
        asked = IoctlEthtool(name)
        try:
            speed = int(asked.get_link_settings().speed)
        finally:
            asked.close()
    except (EthtoolError, OSError):  # it has none (loopback), or does not tell
        return None
    return None if speed in _SPEED_UNKNOWN else speed


if __name__ == "__main__":
    sys.stdout.write(_said())
