"""What the exports of a volume service tell of the ways by which consumers come to them, and who hears it.

    Exporting ──ensure_way, ensure_way_absent, reconcile──▶ StorageNetwork (ways.Ways, which remembers them on disk)
                                                                 └──apply(all ways of the service)──▶ every Rules

A *way* is one consumer's connection that comes over TCP. `Rules` are one kind of thing that a node keeps for its ways:
who may come (`allow_list`), how much may leave (`shaping`). They are declared whole each time, so that one call mends
whatever a crash or a person has made of them. Knows no Ray, no protocol and no kernel interface.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from cluster.storage_network.interfaces import IpAddress
from drivers.vocabulary import UNLIMITED, Limits, Portal

Capability = str | int | float | bool


@dataclass(frozen=True, slots=True)
class Way:
    """How the consumer of a connection comes: to `portal`, whose address may be unspecified (every address of the
    node), from the IP address `consumer`, which is what its connector says of itself (None: it says none). `is_local`:
    it says that it is on this node. `limits` are what it may draw each second."""

    connection_id: str
    volume_id: str
    portal: Portal
    consumer: str | None
    is_local: bool
    limits: Limits = UNLIMITED

    @property
    def consumer_address(self) -> IpAddress | None:
        """`consumer` as rules can tell of it: an IPv4 address that is written as IPv6 is IPv4; None for what is no
        address, or one with a scope (`fe80::1%eth0`), which means something on the consumer's machine alone."""
        try:
            found = ipaddress.ip_address(self.consumer or "")
        except ValueError:
            return None
        if isinstance(found, ipaddress.IPv4Address):
            return found
        return None if found.scope_id is not None else found.ipv4_mapped or found


class StorageNetwork(Protocol):
    """The ways to the exports of one volume service."""

    async def open(self) -> None:
        """The rules of the ways that it remembers are in force, as far as they can be. Raises nothing."""
        ...

    def shown(self) -> Mapping[str, Capability]:
        """What operators and the scheduler are told of it, as capabilities of the service's pools."""
        ...

    def stamp(self) -> int:
        """Now, as `reconcile` understands it; never less than before."""
        ...

    async def has_way(self, connection_id: str) -> bool:
        """Whether it was told of that way and not of its end."""
        ...

    async def ensure_way(self, way: Way) -> None:
        """The consumer has been let in by its export: the rules of its way are in force when this returns. A repeat may
        bring other limits, another consumer or another port. Raises UnsupportedError (a rule that must be kept cannot
        be told for this consumer), BackendUnavailableError (nor kept on this node now)."""
        ...

    async def ensure_way_absent(self, connection_id: str) -> None:
        """The export serves it no more: its rules are gone, now or with the next `reconcile`. Raises nothing."""
        ...

    async def reconcile(self, served: Mapping[str, Portal], since: int) -> Collection[str]:
        """These connections are served over TCP, as was seen by asking after the stamp `since`. The ways of others end,
        but those told of since then; all rules are declared anew. Returns those of `served` that it was never told of
        (so it knows no consumer): they must be let in again. Raises nothing: what cannot be kept is logged and shown.
        """
        ...


class Rules(Protocol):
    """One kind of rule that the node keeps for the ways of one volume service."""

    def shown(self) -> Mapping[str, Capability]:
        """Whether it is kept, and why not, as capabilities of the service's pools."""
        ...

    def refuse(self, way: Way) -> None:
        """Raises UnsupportedError when the rule has to be kept, and cannot be told for this way."""
        ...

    async def apply(self, ways: Sequence[Way]) -> None:
        """Exactly these ways of the service have their rules: what is missing is made, what is too much is removed, in
        one step where the kernel can; safe to repeat, and after a crash. An empty list removes all. Raises
        BackendUnavailableError when the rules have to be kept and could not be; where they need not, it logs (once for
        the same reason) and returns."""
        ...


class NoNetwork:
    """For exports that nobody reaches over a network: knows no way and keeps no rule."""

    async def open(self) -> None:
        """Nothing."""

    def shown(self) -> Mapping[str, Capability]:
        return {}

    def stamp(self) -> int:
        return 0

    async def has_way(self, connection_id: str) -> bool:  # noqa: ARG002
        return False

    async def ensure_way(self, way: Way) -> None:
        """Nothing."""

    async def ensure_way_absent(self, connection_id: str) -> None:
        """Nothing."""

    async def reconcile(self, served: Mapping[str, Portal], since: int) -> Collection[str]:  # noqa: ARG002
        return ()
