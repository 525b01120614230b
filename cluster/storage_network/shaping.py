"""How much may leave the node for consumers with limits: the `Rules` over `htb`, for the ways of one volume service.

Only bytes that leave can be slowed down, so the one limit it keeps is `read_bytes`; which limits are left to the
network is for exports to say (`drivers.protocols.Portals.by_network`), and a way has no others. An operator's own root
qdisc is never touched: a connection with limits is refused there.
"""

from __future__ import annotations

import asyncio
import hashlib
import ipaddress
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

import structlog

from cluster.storage_network import htb
from cluster.storage_network.htb import Flow, HtbError
from cluster.storage_network.seam import Capability, Way
from drivers.vocabulary import UNLIMITED, BackendUnavailableError, Limits, StorageError, UnsupportedError

log = structlog.get_logger()

CAPABILITY: Final = "storage_shaping"
_OWNERS: Final = 32767


def owner_of(instance: str, backend: str) -> int:
    """The number by which htb knows a backend of an instance (its mark) on this node."""
    told = hashlib.sha256(f"{instance}/{backend}".encode()).digest()
    return 1 + int.from_bytes(told[:4], "big") % _OWNERS


class Shaping:
    """Implements `seam.Rules`. All its methods are called from one event loop, `apply` one at a time."""

    def __init__(self, owner: int) -> None:
        self._owner = owner
        self._is_clear = False
        self._before: set[tuple[str, Limits]] = set()
        self._troubles: dict[str, str] = {}

    def shown(self) -> Mapping[str, Capability]:
        """`not kept: why` when a consumer that was let in is not slowed down as it should be."""
        return {CAPABILITY: f"not kept: {min(self._troubles.values())}"} if self._troubles else {}

    def refuse(self, way: Way) -> None:
        """See `Rules`: what goes to a consumer from elsewhere leaves by the interface that leads to its address."""
        if way.limits != UNLIMITED and not way.is_local and way.consumer_address is None:
            raise UnsupportedError(
                f"connection {way.connection_id}: its limits are kept on the way to its consumer, and its connector "
                "says no IP address; give the connector an ip (without a scope)"
            )

    async def apply(self, ways: Sequence[Way]) -> None:
        """See `Rules`. It raises for ways that are new since the last call; for those that stayed it logs."""
        flows = {_flow(way): way for way in ways if way.limits.read_bytes is not None}
        if not flows and self._is_clear:
            return
        wanted = {flow: way.limits.read_bytes or 0 for flow, way in flows.items()}
        try:
            failed = await asyncio.to_thread(htb.ensure, self._owner, wanted)
        except HtbError as error:
            if not flows:
                return  # where it cannot be asked, nothing was made
            failed = dict.fromkeys(flows, error)
        self._is_clear = not flows
        troubles = {flows[flow].connection_id: str(error) for flow, error in failed.items()}
        fresh = [flow for flow in failed if _key(flows[flow]) not in self._before]
        self._note(
            {way: why for way, why in troubles.items() if way not in {flows[flow].connection_id for flow in fresh}}
        )
        self._before = {_key(way) for way in ways}
        if fresh:
            raise _refusal(flows[fresh[0]], failed[fresh[0]])

    def _note(self, troubles: dict[str, str]) -> None:
        for connection_id, why in troubles.items():
            if self._troubles.get(connection_id) != why:
                log.warning("shaping.not_kept", resource_id=connection_id, error=why)
        self._troubles = troubles


def is_left(instance: str, backends: Iterable[str]) -> bool:
    """Whether anything of an instance is slowed down by this node."""
    try:
        return not htb.owners().isdisjoint(owner_of(instance, backend) for backend in backends)
    except HtbError:
        return False  # where it cannot be asked, nothing was made


def clear(instance: str, backends: Iterable[str]) -> list[str]:
    """Nothing of an instance is slowed down by this node any more; return what could not be done."""
    troubles = []
    for backend in backends:
        try:
            htb.ensure(owner_of(instance, backend), {})
        except HtbError as error:
            troubles.append(f"traffic classes of backend {backend} may still be there: {error}")
    return troubles


def _refusal(way: Way, error: HtbError) -> StorageError:
    sentence = f"connection {way.connection_id}: what leaves for its consumer cannot be slowed down: {error}"
    return (UnsupportedError if isinstance(error, htb.ForeignError) else BackendUnavailableError)(sentence)


def _key(way: Way) -> tuple[str, Limits]:
    return way.connection_id, way.limits


def _flow(way: Way) -> Flow:
    """The address decides, where there is one: who says to be on this node and comes from elsewhere is slowed down on
    the way there. To an address of this node the kernel's way is the loopback interface."""
    address = ipaddress.ip_address(way.portal.address)
    return Flow(address, way.portal.port, None if address.is_loopback else way.consumer_address)
