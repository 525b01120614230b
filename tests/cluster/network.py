"""Machines of a cluster that are network namespaces of this one: own addresses on one bridge, links that can be cut.

Needs root and iproute2. Only the network is their own: processes, files and loop devices are this machine's. A command
is run there by nsenter, because `ip netns exec` would give it a mount table of its own as well.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass

BRIDGE = f"pu{os.getpid() % 100_000:05d}"
_NET = f"10.{77 + os.getpid() % 100}.{os.getpid() // 100 % 256}"
ADDRESS = f"{_NET}.1"


def ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True)


@dataclass(frozen=True)
class Namespace:
    """A network namespace with one interface. `number` is the last part of its address, 2 to 254."""

    number: int

    @property
    def name(self) -> str:
        return f"{BRIDGE}n{self.number}"

    @property
    def address(self) -> str:
        return f"{_NET}.{self.number}"

    def within(self, *command: str) -> list[str]:
        """The command that runs `command` there."""
        return ["nsenter", f"--net=/run/netns/{self.name}", *command]

    def cut(self) -> None:
        """Pull the plug."""
        ip("-n", self.name, "link", "set", "eth0", "down")

    def mend(self) -> None:
        """Put it in again."""
        ip("-n", self.name, "link", "set", "eth0", "up")


@contextlib.contextmanager
def bridge() -> Iterator[None]:
    """The bridge, with this machine's own address on it."""
    ip("link", "add", BRIDGE, "type", "bridge")
    try:
        ip("addr", "add", f"{ADDRESS}/24", "dev", BRIDGE)
        ip("link", "set", BRIDGE, "up")
        yield
    finally:
        ip("link", "del", BRIDGE)


@contextlib.contextmanager
def namespace(number: int) -> Iterator[Namespace]:
    """A machine on the bridge."""
    one = Namespace(number)
    ip("netns", "add", one.name)
    try:
        ip("link", "add", f"{BRIDGE}v{number}", "type", "veth", "peer", "name", "eth0", "netns", one.name)
        ip("link", "set", f"{BRIDGE}v{number}", "master", BRIDGE, "up")
        ip("-n", one.name, "link", "set", "lo", "up")
        ip("-n", one.name, "addr", "add", f"{one.address}/24", "dev", "eth0")
        ip("-n", one.name, "link", "set", "eth0", "up")
        yield one
    finally:
        ip("netns", "del", one.name)
