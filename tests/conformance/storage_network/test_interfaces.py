"""What is read of real interfaces, in a namespace of the test's own."""

from __future__ import annotations

import ipaddress
import subprocess
import sys
from collections.abc import Iterator

import pytest

from cluster.storage_network.choosing import choose_here
from cluster.storage_network.interfaces import Interface, asked, interfaces
from cluster.storage_network.settings import StorageNetworkSettings
from tests.conformance.storage_network.namespaces import Space, space

ALTERNATIVE = "the-network-of-storage-machines"


@pytest.fixture(scope="module")
def machine() -> Iterator[Space]:
    """A machine with `st0` (9000 bytes, an alternative name, an address that is not its first), and `st1`, down."""
    with space() as one:
        one.ip("link", "add", "st0", "mtu", "9000", "type", "veth", "peer", "name", "far")
        one.ip("link", "property", "add", "dev", "st0", "altname", ALTERNATIVE, "altname", "second")
        one.ip("addr", "add", "10.98.0.5/24", "dev", "st0")
        one.ip("addr", "add", "10.98.0.6/24", "dev", "st0")
        one.ip("addr", "add", "fd98::5/64", "dev", "st0", "nodad")
        one.ip("link", "set", "far", "up")
        one.ip("link", "set", "st0", "up")
        one.ip("link", "add", "st1", "type", "veth", "peer", "name", "far1")
        one.ip("addr", "add", "10.97.0.5/24", "dev", "st1")
        yield one


def found(machine: Space, name: str) -> Interface:
    return next(one for one in machine.do(interfaces) if one.name == name)


def test_names_addresses_and_size(machine: Space) -> None:
    one = found(machine, "st0")
    assert one.names == ("st0", ALTERNATIVE, "second")
    assert (one.mtu, one.is_up) == (9000, True)
    # Neither the second of its subnet nor that of the link alone.
    assert one.addresses == (ipaddress.ip_address("10.98.0.5"), ipaddress.ip_address("fd98::5"))


def test_what_is_down_is_told(machine: Space) -> None:
    one = found(machine, "st1")
    assert (one.is_up, [str(address) for address in one.addresses]) == (False, ["10.97.0.5"])


def test_a_speed_that_the_kernel_makes_up_is_none(machine: Space) -> None:
    shown = subprocess.run(
        ["nsenter", f"--net=/run/netns/{machine.name}", sys.executable, "-c", _SPEED], capture_output=True, text=True
    )
    assert shown.stdout.strip() == "10000", shown.stderr  # the kernel does say something
    assert found(machine, "st0").speed_mbps is None
    assert found(machine, "lo").speed_mbps is None


_SPEED = """
from pyroute2.ethtool.ioctl import IoctlEthtool
print(IoctlEthtool("st0").get_link_settings().speed)
"""


def test_another_process_says_the_same(machine: Space, monkeypatch: pytest.MonkeyPatch) -> None:
    assert machine.do(asked) == machine.do(interfaces)
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(OSError, match="the network's interfaces cannot be read: 1"):
        asked()


def test_a_setting_finds_a_real_interface(machine: Space) -> None:
    wanted = StorageNetworkSettings(interface=ALTERNATIVE)
    one = machine.do(lambda: choose_here(wanted, {}, "127.0.0.1"))
    assert (one.interface, one.address, one.mtu) == ("st0", "10.98.0.5", 9000)
    alone = machine.do(lambda: choose_here(StorageNetworkSettings(), {}, "127.0.0.1"))
    assert (alone.interface, alone.address) == ("lo", "127.0.0.1")


def test_it_works_in_a_process_that_has_set_uvloop() -> None:
    """As Ray's workers do; pyroute2 by itself fails there."""
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", _UNDER_UVLOOP], capture_output=True, text=True)
    assert done.stdout.split() == ["lo"], done.stderr


_UNDER_UVLOOP = """
import asyncio, uvloop
from cluster.storage_network.interfaces import interfaces

async def main():
    print((await asyncio.to_thread(interfaces))[0].name)

asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
asyncio.run(main())
"""
