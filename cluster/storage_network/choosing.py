"""Which interface and address of a node its exports use. Plain functions of settings, labels and interfaces.

Raises SettingsError with what is there, so that whoever reads it can say what is wanted.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping, Sequence

from cluster.settings import SettingsError
from cluster.storage_network.chosen import Chosen
from cluster.storage_network.interfaces import Interface, IpAddress, asked
from cluster.storage_network.settings import StorageNetworkSettings


def choose(
    settings: StorageNetworkSettings, labels: Mapping[str, str], cluster_address: str, there: Sequence[Interface]
) -> Chosen:
    """The storage network of a node with these `labels`, which the cluster knows by `cluster_address`. Raises
    SettingsError."""
    if settings.subnet is not None:
        found, address = _by_subnet(settings.subnet, there)
    elif settings.interface is not None:
        found, address = _by_name(settings.interface, "storage_network.interface", there)
    elif settings.label is not None:
        found, address = _by_label(settings.label, labels, there)
    else:
        address = ipaddress.ip_address(cluster_address)
        having = [one for one in there if address in one.addresses]
        if not having:  # it may be another machine's that forwards to this one: nobody knows what is between
            return Chosen(None, str(address), None, settings.speed_mbps, settings.allow_list)
        found = having[0]
    speed = settings.speed_mbps or found.speed_mbps
    return Chosen(found.name, str(address), found.mtu, speed, settings.allow_list)


def choose_here(settings: StorageNetworkSettings, labels: Mapping[str, str], cluster_address: str) -> Chosen:
    """The storage network of this machine's node. Blocking; raises SettingsError, OSError."""
    return choose(settings, labels, cluster_address, asked())


def _by_subnet(subnet: str, there: Sequence[Interface]) -> tuple[Interface, IpAddress]:
    network, where = ipaddress.ip_network(subnet), "storage_network.subnet"
    fits = [(one, address) for one in there for address in one.addresses if address in network]
    if not fits:
        raise SettingsError(f"{where}: no interface of this machine has an address in {subnet}; {_list(there)}")
    if len(fits) > 1:
        several = ", ".join(f"{address} on {one.name}" for one, address in fits)
        raise SettingsError(f"{where}: {subnet} has {several}; give a smaller subnet")
    return _up(*fits[0], where)


def _by_label(label: str, labels: Mapping[str, str], there: Sequence[Interface]) -> tuple[Interface, IpAddress]:
    where = "storage_network.label"
    if label not in labels:
        mine = ", ".join(sorted(labels)) or "none"
        raise SettingsError(
            f"{where}: this node has no label {label!r} (its labels: {mine}); give it one that names the interface, "
            f"as {label}=eth1; {_list(there)}"
        )
    return _by_name(labels[label], f"{where} ({label}={labels[label]})", there)


def _by_name(name: str, where: str, there: Sequence[Interface]) -> tuple[Interface, IpAddress]:
    found = next((one for one in there if name in one.names), None)
    if found is None:
        raise SettingsError(f"{where}: there is no interface {name!r} on this machine; {_list(there)}")
    # An interface often has an address of each version; the other exports of a cluster are IPv4 as well.
    for version in (4, 6):
        fits = [address for address in found.addresses if address.version == version]
        if len(fits) > 1:
            several = ", ".join(map(str, fits))
            raise SettingsError(f"{where}: {found.name} has {several}; choose one by storage_network.subnet")
        if fits:
            return _up(found, fits[0], where)
    raise SettingsError(f"{where}: {found.name} has no address that exports could use; {_list(there)}")


def _up(found: Interface, address: IpAddress, where: str) -> tuple[Interface, IpAddress]:
    if not found.is_up:
        raise SettingsError(f"{where}: {found.name}, which has {address}, is down; ip link set {found.name} up")
    return found, address


def _list(there: Sequence[Interface]) -> str:
    return f"there are: {'; '.join(map(str, there))}"
