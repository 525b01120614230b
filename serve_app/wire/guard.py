"""Who is answered at all: an instance that listens on loopback answers this machine only, and one that believes whom
it is told (noauth) answers under its own names only.

Ray Serve's replicas and its HAProxy may listen on all interfaces whatever they are told, and HAProxy reaches a
replica from the node's own address; so the peer must be loopback or an address of this machine.

A browser on this machine passes that test for every page it shows: one whose name its owner lets point to 127.0.0.1
(DNS rebinding) could use an instance that asks for no secret. Such a request says the page's name in `Host`.
"""

from __future__ import annotations

import ipaddress
import time
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlsplit

import psutil

from cluster.settings import IdentityMode, Settings, is_loopback

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
        self._names: frozenset[str] | None = None
        if settings.identity.mode is IdentityMode.NOAUTH:
            public = urlsplit(settings.public_url or "").hostname
            self._names = frozenset(name.lower() for name in (settings.listen, public) if name)
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

    def refusal(self, scope: Mapping[str, Any]) -> str | None:
        """Why a request is not answered; None when it is."""
        if not self.admits(scope):
            return "This service answers on its own machine only."
        if self._names is not None:
            given = [value for name, value in scope.get("headers", ()) if name.lower() == b"host"]
            if not all(self._is_own(value.decode("latin-1")) for value in given):
                return "Without authentication this service answers under its own names only, such as localhost."
        return None

    def _is_own(self, host: str) -> bool:
        try:
            name = urlsplit(f"//{host}").hostname
        except ValueError:
            return False
        return name is not None and self._names is not None and (is_loopback(name) or name in self._names)

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
