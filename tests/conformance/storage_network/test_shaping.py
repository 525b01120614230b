"""Traffic classes in the kernel, in namespaces of the test's own: whose they are, what stays, what a crash leaves."""

from __future__ import annotations

import asyncio
import ipaddress
import subprocess
from collections.abc import Iterator
from dataclasses import replace

import pytest

from cluster.storage_network import htb, shaping
from cluster.storage_network.htb import Flow
from cluster.storage_network.seam import Way
from cluster.storage_network.shaping import Shaping
from drivers.vocabulary import UNLIMITED, BackendUnavailableError, Limits, Portal, UnsupportedError
from tests.conformance.storage_network.namespaces import Space, cable, space

MINE, OTHER = shaping.owner_of("mark", "left"), shaping.owner_of("mark", "right")
MIB = 1 << 20


@pytest.fixture
def node() -> Iterator[Space]:
    with space() as one:
        yield one


def _flow(port: int, address: str = "127.0.0.1", consumer: str | None = None) -> Flow:
    return Flow(ipaddress.ip_address(address), port, None if consumer is None else ipaddress.ip_address(consumer))


def _way(connection_id: str, rate: int | None, consumer: str | None = None, *, is_local: bool = True) -> Way:
    portal = Portal("127.0.0.1" if is_local else "10.99.1.1", 3261)
    return Way(connection_id, "v", portal, consumer, is_local, Limits(read_bytes=rate) if rate else UNLIMITED)


def _tc(node: Space, what: str, device: str = "lo") -> list[str]:
    command = ["tc", "-n", node.name, what, "show", "dev", device]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()


def _rates(node: Space, device: str = "lo") -> set[str]:
    return {line.split("rate ")[1].split()[0] for line in _tc(node, "class", device)}


def test_services_of_one_node_leave_each_other_alone(node: Space) -> None:
    mine, other = _flow(3261), _flow(3262, "::")
    assert node.do(lambda: htb.ensure(MINE, {mine: MIB})) == {}
    assert node.do(lambda: htb.ensure(OTHER, {other: 2 * MIB})) == {}
    assert _rates(node) == {"8397Kbit", "16794Kbit"}
    before = _tc(node, "filter")
    assert node.do(lambda: htb.ensure(MINE, {mine: 4 * MIB})) == {}
    assert _rates(node) == {"33588Kbit", "16794Kbit"}
    assert _tc(node, "filter") == before, "a live change touches the class alone"
    assert node.do(lambda: htb.ensure(MINE, {})) == {}
    assert _rates(node) == {"16794Kbit"}
    assert node.do(lambda: shaping.clear("mark", ["left", "right"])) == []
    assert _tc(node, "qdisc") == ["qdisc noqueue 0: root refcnt 2 "]


def test_what_a_crash_left_goes(node: Space) -> None:
    """A class that no filter names, and filters of ports that are no more."""
    assert node.do(lambda: htb.ensure(MINE, {_flow(3261): MIB, _flow(3262): MIB})) == {}
    command = "class add dev lo parent 504d: classid 504d:77 htb rate 1mbit"
    subprocess.run(["tc", "-n", node.name, *command.split()], check=True)
    assert len(_tc(node, "class")) == 3
    assert node.do(lambda: htb.ensure(MINE, {_flow(3262): MIB})) == {}
    assert len(_tc(node, "class")) == 1
    assert len([line for line in _tc(node, "filter") if "flowid" in line]) == 1


def test_an_operator_s_qdisc_stays(node: Space) -> None:
    with space() as far:
        cable(node, far, 1)
        subprocess.run(["tc", "-n", node.name, "qdisc", "add", "dev", "c1", "root", "pfifo"], check=True)
        before = _tc(node, "qdisc", "c1")
        rules = Shaping(MINE)
        ways = [_way("near", MIB), _way("far", MIB, "10.99.1.2", is_local=False)]

        def apply(ways: list[Way]) -> None:
            node.do(lambda: asyncio.run(rules.apply(ways)))

        with pytest.raises(UnsupportedError, match=r"connection far: .*c1 has a root qdisc of its own \(pfifo"):
            apply(ways)
        assert _tc(node, "qdisc", "c1") == before
        assert len(_rates(node)) == 1, "the other has its limit"
        assert rules.shown() == {}
        apply(ways)
        assert "pfifo" in str(rules.shown()[shaping.CAPABILITY]), "it is not new any more, so others are let in"
        subprocess.run(["tc", "-n", node.name, "qdisc", "del", "dev", "c1", "root"], check=True)
        apply(ways)
        assert (rules.shown(), len(_rates(node, "c1"))) == ({}, 1)
        apply([])
        assert "noqueue" in _tc(node, "qdisc", "c1")[0]


def test_a_consumer_without_an_address_or_a_route(node: Space) -> None:
    rules = Shaping(MINE)
    with pytest.raises(UnsupportedError, match="give the connector an ip"):
        rules.refuse(_way("far", MIB, is_local=False))
    rules.refuse(_way("far", None, is_local=False))
    with pytest.raises(BackendUnavailableError, match=r"no route to 203.0.113.5"):
        node.do(lambda: asyncio.run(rules.apply([_way("far", MIB, "203.0.113.5", is_local=False)])))
    assert _tc(node, "class") == []


def test_a_rate_that_the_kernel_cannot_be_told_is_that_of_its_own_connection_alone(node: Space) -> None:
    """Its burst would last longer than the kernel's number for it can say."""
    odd, even = _flow(3261), _flow(3262)
    for rate in (1, 1 << 80):
        failed = node.do(lambda rate=rate: htb.ensure(MINE, {odd: rate, even: MIB}))
        assert list(failed) == [odd]
        assert _rates(node) == {"8397Kbit"}
    rules = Shaping(MINE)
    old = replace(_way("old", 1), portal=Portal("127.0.0.1", 3262))
    with pytest.raises(BackendUnavailableError, match=r"connection old: .*bytes a second"):
        node.do(lambda: asyncio.run(rules.apply([old])))
    node.do(lambda: asyncio.run(rules.apply([old, _way("new", MIB)])))
    assert _rates(node) == {"8397Kbit"}
    assert "bytes a second" in str(rules.shown()[shaping.CAPABILITY])


def test_who_says_to_be_here_and_comes_from_elsewhere_is_slowed_down_there(node: Space) -> None:
    with space() as far:
        cable(node, far, 1)
        rules = Shaping(MINE)
        lying = replace(_way("c", MIB, "10.99.1.2"), portal=Portal("10.99.1.1", 3261))
        node.do(lambda: asyncio.run(rules.apply([lying])))
        assert (len(_rates(node, "c1")), _tc(node, "class")) == (1, [])
        here = replace(lying, consumer="10.99.1.1")
        node.do(lambda: asyncio.run(rules.apply([here])))
        assert ("504d" in "".join(_tc(node, "qdisc", "c1")), len(_rates(node))) == (False, 1)
        with pytest.raises(UnsupportedError, match="without a scope"):
            rules.refuse(replace(lying, consumer="fd99:1::2%c1", is_local=False))
