"""Classes of the kernel's packet scheduler HTB by which what leaves a port is slowed down. Blocking calls over netlink.

An interface that has something to slow down gets the root qdisc `504d:` ("PM"), which all instances of a machine share;
what no filter names passes through it unhindered. A filter (u32: TCP from a port) leads to one class. Its preference
says whose it is: each volume service has two of its own, so that one makes and removes none of another's. A class that
no filter names was left by a crash, and goes. Whoever changes something holds the lock of the network namespace.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import struct
import time
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from cluster.storage_network.interfaces import IpAddress, route

ROOT: Final = 0x504D0000
_AT_ROOT: Final = 0xFFFFFFFF
_LOOPBACK: Final = 1
_MINORS: Final = 0xFFFF
_TCP: Final = 6
_IPV4, _IPV6 = 0x0800, 0x86DD
# What a filter looks at: bytes of the packet from the start of its IP header, which has no options here.
_PROTOCOL_AT: Final = {_IPV4: 9, _IPV6: 6}
_SOURCE_AT: Final = {_IPV4: 12, _IPV6: 8}
_PORT_AT: Final = {_IPV4: 20, _IPV6: 40}
# The kernel hands over up to 64 KiB at once, and a class must be able to pay for that.
_LEAST_BURST_BYTES: Final = 128 << 10
_BURST_SECONDS: Final = 0.01
_QUANTUM_BYTES: Final = 60_000
_ETHERNET_BYTES: Final = 14
_HEADERS_BYTES: Final = 52  # IPv4 and TCP with time stamps
_LOCK_SECONDS: Final = 10.0
_SELECTOR_BYTES: Final = 20  # struct tc_u32_sel and the attribute's header
_KEY: Final = struct.Struct("=4s4sii")  # struct tc_u32_key


class HtbError(Exception):
    """It was not done; the message says why, and what to do."""


class ForeignError(HtbError):
    """The interface has a root qdisc that is not Pumice's, which stays as it is."""


@dataclass(frozen=True, slots=True)
class Flow:
    """TCP that leaves from `port`, and `address` unless that is unspecified, to `consumer` (None: to this node)."""

    address: IpAddress
    port: int
    consumer: IpAddress | None


def ensure(owner: int, wanted: Mapping[Flow, int]) -> dict[Flow, HtbError]:
    """The service `owner` (a number from 1 to 32767) slows down exactly these flows, each to so many bytes of payload a
    second. Returns those that could not be. Raises HtbError when nothing could be done at all."""
    failed: dict[Flow, HtbError] = {}
    try:
        with _alone(), route() as kernel:
            links = {link["index"]: link for link in kernel.get_links()}
            roots = {one["index"]: one for one in kernel.get_qdiscs() if one["parent"] == _AT_ROOT}
            there = {index for index, root in roots.items() if _is_ours(root)}
            of_link: dict[int, dict[_Match, int]] = {index: {} for index in there}
            flows: dict[tuple[int, _Match], Flow] = {}
            for flow, rate in wanted.items():
                try:
                    index = _way_out(kernel, flow)
                    name, mtu = str(links[index].get("ifname")), int(links[index].get("mtu"))
                    if index not in there:
                        _make_root(kernel, index, name, roots.get(index))
                        there.add(index)
                    for match in _matches(flow):
                        of_link.setdefault(index, {})[match] = _on_the_wire(rate, mtu)
                        flows[index, match] = flow
                except HtbError as error:
                    failed[flow] = error
            for index, matches in of_link.items():
                for match, why in _ensure_link(kernel, index, owner, matches).items():
                    failed[flows[index, match]] = why
    except _errors() as error:
        raise HtbError(f"the kernel's packet scheduler refuses: {_reason(error)}") from error
    return failed


def owners() -> set[int]:
    """The services for which something is slowed down. Raises HtbError."""
    try:
        with route() as kernel:
            there = [one["index"] for one in kernel.get_qdiscs() if one["parent"] == _AT_ROOT and _is_ours(one)]
            return {found.owner for index in there for found in _filters(kernel, index)}
    except _errors() as error:
        raise HtbError(f"the kernel's packet scheduler does not answer: {_reason(error)}") from error


@dataclass(frozen=True, slots=True)
class _Match:
    """A filter's condition: of packets of `ethertype`, these bytes at these places."""

    ethertype: int
    bytes_at: frozenset[tuple[int, int]]


@dataclass(frozen=True, slots=True)
class _Filter:
    handle: int
    info: int
    match: _Match
    target: int

    @property
    def owner(self) -> int:
        return self.info >> 17


def _ensure_link(kernel: Any, index: int, owner: int, wanted: Mapping[_Match, int]) -> dict[_Match, HtbError]:
    """Returns those that could not be; what is wrong with one of them takes nothing from the others."""
    failed: dict[_Match, HtbError] = {}
    filters = _filters(kernel, index)
    classes = {one["handle"] for one in kernel.get_classes(index) if one["handle"] & ~_MINORS == ROOT}
    kept: dict[_Match, _Filter] = {}
    for one in filters:
        if one.owner == owner and one.match in wanted and one.match not in kept:
            kept[one.match] = one
        elif one.owner == owner:
            place = {"parent": ROOT, "prio": one.info >> 16, "protocol": one.match.ethertype, "target": one.target}
            kernel.tc("del-filter", "u32", index, one.handle, **place)
    named = {one.target for one in filters if one.owner != owner} | {one.target for one in kept.values()}
    taken = named | classes
    for match, rate in wanted.items():
        try:
            target = kept[match].target if match in kept else _free(taken, owner)
            _ensure_class(kernel, index, target, rate)
            if match not in kept:
                # Crash window: a class without its filter, which the next call removes.
                _add_filter(kernel, index, owner, match, target)
        except Exception as error:  # also pyroute2's own, of a number that its messages cannot hold
            failed[match] = HtbError(f"the kernel's packet scheduler refuses {rate} bytes a second: {_reason(error)}")
        else:
            taken.add(target)
            named.add(target)
    for left in classes - named:
        kernel.tc("del-class", index=index, handle=left, parent=ROOT)
    if not named:
        kernel.tc("del", "htb", index, ROOT, root=True)
    return failed


def _ensure_class(kernel: Any, index: int, handle: int, rate: int) -> None:
    burst = max(_LEAST_BURST_BYTES, int(rate * _BURST_SECONDS))
    sizes = {"burst": burst, "cburst": burst, "quantum": _QUANTUM_BYTES}
    kernel.tc("replace-class", "htb", index, handle, parent=ROOT, rate=rate, ceil=rate, **sizes)


def _add_filter(kernel: Any, index: int, owner: int, match: _Match, target: int) -> None:
    keys = [f"{value:#x}/0xff+{place}" for place, value in sorted(match.bytes_at)]
    kernel.tc(
        "add-filter",
        "u32",
        index,
        parent=ROOT,
        prio=owner << 1 | (match.ethertype == _IPV6),  # a preference is of one protocol
        protocol=match.ethertype,
        target=target,
        keys=keys,
    )


def _filters(kernel: Any, index: int) -> list[_Filter]:
    found = []
    for one in kernel.get_filters(index, parent=ROOT):
        options = one.get_attr("TCA_OPTIONS")
        chosen = options.get_attr("TCA_U32_SEL") if options is not None else None
        if chosen is None:  # the table that filters of one preference stand in
            continue
        bytes_at = set()
        # pyroute2 0.9 reads the keys four bytes too early, so they are read here.
        start = chosen.offset + _SELECTOR_BYTES
        keys = bytes(chosen.data[start : start + _KEY.size * chosen["nkeys"]])
        for mask, value, offset, _ in _KEY.iter_unpack(keys):
            bytes_at |= {(offset + place, value[place]) for place in range(4) if mask[place]}
        ethertype = int.from_bytes((one["info"] & 0xFFFF).to_bytes(2, "little"), "big")
        target = options.get_attr("TCA_U32_CLASSID") or 0
        found.append(_Filter(one["handle"], one["info"], _Match(ethertype, frozenset(bytes_at)), target))
    return found


def _matches(flow: Flow) -> Iterator[_Match]:
    for ethertype, version in ((_IPV4, 4), (_IPV6, 6)):
        is_every = flow.address.is_unspecified
        if flow.address.version != version and not (is_every and flow.address.version == 6):
            continue
        bytes_at = {(_PROTOCOL_AT[ethertype], _TCP)}
        bytes_at |= _bytes(_PORT_AT[ethertype], flow.port.to_bytes(2, "big"))
        if not is_every:
            bytes_at |= _bytes(_SOURCE_AT[ethertype], flow.address.packed)
        yield _Match(ethertype, frozenset(bytes_at))


def _bytes(start: int, values: bytes) -> set[tuple[int, int]]:
    return {(start + place, value) for place, value in enumerate(values)}


def _way_out(kernel: Any, flow: Flow) -> int:
    """The interface by which packets to the consumer leave."""
    if flow.consumer is None:
        return _LOOPBACK
    try:
        found = list(kernel.route("get", dst=str(flow.consumer)))
    except _errors() as error:
        raise HtbError(f"there is no route to {flow.consumer}: {_reason(error)}") from error
    return int(found[0].get_attr("RTA_OIF"))


def _make_root(kernel: Any, index: int, name: str, present: Any) -> None:
    if present is not None and present["handle"] != 0:  # what the kernel chose by itself has no handle
        kind = present.get_attr("TCA_KIND")
        raise ForeignError(
            f"interface {name} has a root qdisc of its own ({kind} {present['handle'] >> 16:x}:), which stays; "
            f"tc qdisc del dev {name} root, or use the export nbd"
        )
    kernel.tc("add", "htb", index, ROOT, default=0)


def _is_ours(root: Any) -> bool:
    return bool(root["handle"] == ROOT and root.get_attr("TCA_KIND") == "htb")


def _free(taken: Collection[int], owner: int) -> int:
    for step in range(1, _MINORS):
        handle = ROOT + 1 + (owner * 31 + step) % (_MINORS - 1)
        if handle not in taken:
            return handle
    raise HtbError("every class of an interface is taken")


def _on_the_wire(rate: int, mtu: int) -> int:
    """What packets of this size that carry `rate` bytes of payload weigh, as the kernel counts them."""
    return rate * (mtu + _ETHERNET_BYTES) // max(mtu - _HEADERS_BYTES, 1)


@contextlib.contextmanager
def _alone() -> Iterator[None]:
    """Nobody else changes classes of this network namespace meanwhile. Raises HtbError."""
    namespace = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        deadline = time.monotonic() + _LOCK_SECONDS
        while True:
            try:
                fcntl.flock(namespace, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError as error:
                if time.monotonic() > deadline:
                    raise HtbError(
                        "another process has held the lock of /proc/self/ns/net for too long; end it"
                    ) from error
                time.sleep(0.01)
        yield
    finally:
        os.close(namespace)


def _errors() -> tuple[type[Exception], ...]:
    from pyroute2.netlink.exceptions import NetlinkError

    return (NetlinkError, OSError)


def _reason(error: Exception) -> str:
    code = getattr(error, "code", None) or getattr(error, "errno", None)
    if code in (errno.EPERM, errno.EACCES):
        return "it needs root, or CAP_NET_ADMIN"
    if code == errno.ENOENT:
        return "it has no HTB or no u32 (modprobe sch_htb cls_u32)"
    return str(error) or type(error).__name__
