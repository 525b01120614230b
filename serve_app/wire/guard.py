"""The loopback guard: an instance that listens on loopback answers this machine only.

Ray Serve's replicas and its HAProxy may listen on all interfaces whatever they are told, and HAProxy reaches a
replica from the node's own address; so the peer must be loopback or an address of this machine.
"""

from __future__ import annotations

import ipaddress
import time
from collections.abc import Callable, Mapping
from typing import Any

import psutil

from cluster.settings import Settings, is_loopback

_FRESH_SECONDS = 30.0


def local_addresses() -> frozenset[str]:
    """The addresses of this machine's interfaces, without scope ids."""
    return frozenset(address.address.partition("%")[0] for items in psutil.net_if_addrs().values() for address in items)


class Guard:
    """Says whether a request's peer may be answered."""

    def __init__(
        self,
        settings: Settings,
        addresses: Callable[[], frozenset[str]] = local_addresses,
        seconds: Callable[[], float] = time.monotonic,
    ) -> None:
        self._closed = is_loopback(settings.listen)
        self._addresses, self._seconds = addresses, seconds
        self._known: frozenset[str] = frozenset()
        self._read_at: float | None = None

    def admits(self, scope: Mapping[str, Any]) -> bool:
        """Whether the peer of an ASGI scope may be answered. A peer without an address is a Unix socket or a test."""
        if not self._closed:
            return True
        client = scope.get("client")
        if client is None or client[0] == "127.0.0.1":
            return True
        host = _plain(client[0])
        return host is None or is_loopback(host) or host in self._current()

    def _current(self) -> frozenset[str]:
        now = self._seconds()
        if self._read_at is None or now - self._read_at > _FRESH_SECONDS:
            self._known = self._addresses()
            self._read_at = now
        return self._known


def _plain(host: str) -> str | None:
    """`host` without a scope id and as IPv4 where it is an IPv4 address in IPv6 clothes; None for an empty host."""
    if not host:
        return None
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return host
    mapped = getattr(address, "ipv4_mapped", None)
    return str(mapped or address)
