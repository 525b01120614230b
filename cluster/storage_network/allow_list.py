"""Who may reach the ports of exports: one nftables table for each volume service of a node, made whole each time.

The table refuses whoever comes to a port of a connection that is served and is not its consumer, packet by packet: a
session that began before the rules, or that outlived its attachment, ends with its next packet. What comes by the
loopback interface passes: it is of this node, whose root has the files anyway. Ports that no connection has are no
business of the table. A consumer is the address that its connector *says*: keys and passwords (TLS-PSK, CHAP) stay what
proves who it is.
"""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

import structlog

from cluster.storage_network import nft
from cluster.storage_network.interfaces import IpAddress
from cluster.storage_network.seam import Capability, Way
from cluster.storage_network.settings import AllowListMode
from drivers.vocabulary import BackendUnavailableError, UnsupportedError

log = structlog.get_logger()

CAPABILITY: Final = "storage_allow_list"
# Before the machine's own filters (0): what they refuse they refuse all the same.
_PRIORITY: Final = -10
# Of an address's version: nft's names of the protocol and of the type of an address.
_KINDS: Final = {4: ("ip", "ipv4_addr"), 6: ("ip6", "ipv6_addr")}


def table_name(instance: str, backend: str) -> str:
    """The table of a backend; `instance` is the instance's mark. All of an instance begin as `table_prefix` says."""
    return f"{table_prefix(instance)}{backend}"


def table_prefix(instance: str) -> str:
    """What the names of an instance's tables begin with, and those of no other."""
    return f"pumice-{instance}-"


class AllowList:
    """Implements `seam.Rules`. `is_expected`: consumers may come from elsewhere, so it is told before the first one
    does when nothing can be kept."""

    def __init__(self, table: str, mode: AllowListMode, *, is_expected: bool) -> None:
        self._table = table
        self._mode = mode
        self._is_expected = is_expected
        self._trouble: str | None = None
        self._is_kept = False
        # Whether a table of ours is in the kernel, which goes on refusing whom it does not name.
        self._is_there = False

    def shown(self) -> Mapping[str, Capability]:
        """`kept`, `off`, `not kept: why`; nothing before it was tried, and where nobody comes from elsewhere."""
        if self._mode is AllowListMode.OFF and not self._is_there:
            return {CAPABILITY: "off"}
        if self._trouble is not None:
            return {CAPABILITY: f"not kept: {self._trouble}"}
        return {CAPABILITY: "kept"} if self._is_kept else {}

    def refuse(self, way: Way) -> None:
        """See `Rules`: a consumer from elsewhere has to say from which address it comes."""
        is_left_out = self._trouble is not None and not self._is_there
        best_effort_fails = self._mode is AllowListMode.WHERE_POSSIBLE and is_left_out
        if self._mode is AllowListMode.OFF or best_effort_fails or way.is_local or not _is_guarded(way):
            return
        portal, consumer = ipaddress.ip_address(way.portal.address), way.consumer_address
        if consumer is None:
            raise UnsupportedError(
                f"connection {way.connection_id}: its connector says no IP address, and only addresses that attached "
                "consumers say reach exports; give the connector an ip (without a scope)"
            )
        if consumer.version not in _versions(portal):
            raise UnsupportedError(
                f"connection {way.connection_id}: its connector says {consumer}, and the export is reached by "
                f"IPv{portal.version}; give the connector an ip of that version"
            )

    async def apply(self, ways: Sequence[Way]) -> None:
        """See `Rules`. A table that was made before stays when nft fails, and then nobody new is let in, in any mode:
        `where-possible` is for nodes that cannot make one."""
        guarded = [way for way in ways if _is_guarded(way)] if self._mode is not AllowListMode.OFF else []
        try:
            await asyncio.to_thread(nft.run, ruleset(self._table, guarded))
        except nft.NftError as error:
            # By an earlier life, if not by this one; where nft cannot tell it could not make one either.
            self._is_there = self._is_there or self._table in await asyncio.to_thread(nft.left, self._table)
            if not self._is_there and (self._mode is AllowListMode.OFF or not (guarded or self._is_expected)):
                return
            stays = "; the rules of before stay, and refuse every consumer that they do not name"
            why = f"{error}{stays if self._is_there else ''}"
            self._note(why)
            if self._is_there or self._mode is AllowListMode.REQUIRED:
                is_required = self._mode is AllowListMode.REQUIRED
                what = "is required (storage_network.allow_list)" if is_required else "cannot be changed"
                raise BackendUnavailableError(f"the allow-list of this node's exports {what}: {why}") from error
        else:
            self._is_there = bool(guarded)
            self._is_kept = self._is_expected or bool(guarded)
            self._trouble = None

    def _note(self, trouble: str) -> None:
        if trouble != self._trouble and self._mode is not AllowListMode.REQUIRED:
            then = "nobody new is let in" if self._is_there else "any address reaches its ports"
            log.warning("allow_list.not_kept", table=self._table, error=trouble, then=then)
        self._trouble = trouble


def ruleset(table: str, ways: Collection[Way]) -> list[dict[str, Any]]:
    """The commands for nft after which the table holds these ways and nothing else; without ways there is none."""
    begin = nft.removal(table)
    if not ways:
        return begin
    of = {"family": nft.FAMILY, "table": table}
    rules: list[dict[str, Any]] = [_rule(of, [_match({"meta": {"key": "iifname"}}, "==", "lo"), {"accept": None}])]
    sets: list[dict[str, Any]] = []
    for version, (protocol, kind) in _KINDS.items():
        source = {"payload": {"protocol": protocol, "field": "saddr"}}
        target = {"payload": {"protocol": protocol, "field": "daddr"}}
        port = {"payload": {"protocol": "tcp", "field": "dport"}}
        for everywhere, keys, types in (
            (False, [target, port], [kind, "inet_service"]),
            (True, [port], ["inet_service"]),
        ):
            portals, admitted = _elements(ways, version, everywhere=everywhere)
            if not portals:
                continue
            name = f"{'every' if everywhere else 'portals'}{version}"
            key = {"concat": keys} if len(keys) > 1 else keys[0]
            sets.append(_set(of, name, types, portals))
            sets.append(_set(of, f"{name}_admitted", [*types, kind], admitted))
            family = _match({"meta": {"key": "nfproto"}}, "==", "ipv4" if version == 4 else "ipv6")
            rules.append(
                _rule(
                    of,
                    [
                        family,
                        _match(key, "==", f"@{name}"),
                        _match({"concat": [*keys, source]}, "!=", f"@{name}_admitted"),
                        {"reject": {"type": "tcp reset"}},
                    ],
                )
            )
    chain = {**of, "name": "input", "type": "filter", "hook": "input", "prio": _PRIORITY, "policy": "accept"}
    made = {"table": {"family": nft.FAMILY, "name": table}}
    return [*begin, {"add": made}, *sets, {"add": {"chain": chain}}, *rules]


def _elements(ways: Iterable[Way], version: int, *, everywhere: bool) -> tuple[list[Any], list[Any]]:
    """The ports of one version of addresses, and who may come to them; `everywhere`: those at every address."""
    portals: dict[str, Any] = {}
    admitted: dict[str, Any] = {}
    for way in ways:
        address = ipaddress.ip_address(way.portal.address)
        if address.is_unspecified is not everywhere or version not in _versions(address):
            continue
        at: list[Any] = [way.portal.port] if everywhere else [str(address), way.portal.port]
        portals[str(at)] = at
        consumer = way.consumer_address
        if consumer is not None and consumer.version == version:
            admitted[str([*at, consumer])] = [*at, str(consumer)]
    return list(portals.values()), list(admitted.values())


def _versions(portal: IpAddress) -> Iterator[int]:
    """What a listener on this address takes: one on `::` takes IPv4 as well."""
    yield portal.version
    if portal.version == 6 and portal.is_unspecified:
        yield 4


def _is_guarded(way: Way) -> bool:
    return not ipaddress.ip_address(way.portal.address).is_loopback


def _set(of: Mapping[str, str], name: str, types: list[str], elements: Sequence[Any]) -> dict[str, Any]:
    made = {**of, "name": name, "type": types if len(types) > 1 else types[0]}
    shaped = [{"concat": one} if len(one) > 1 else one[0] for one in elements]
    return {"add": {"set": {**made, **({"elem": shaped} if shaped else {})}}}


def _rule(of: Mapping[str, str], expressions: list[dict[str, Any]]) -> dict[str, Any]:
    return {"add": {"rule": {**of, "chain": "input", "expr": expressions}}}


def _match(left: Any, operator: str, right: Any) -> dict[str, Any]:
    return {"match": {"op": operator, "left": left, "right": right}}
