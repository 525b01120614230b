"""Which interface and address are chosen, and the sentences when none can be."""

from __future__ import annotations

import ipaddress
from typing import Any

import pytest

from actors.volume import is_expected
from cluster.settings import BackendSettings, SettingsError, load
from cluster.storage_network.choosing import choose
from cluster.storage_network.chosen import ADDRESS, INTERFACE, MTU, SPEED, Chosen, address_label, address_of
from cluster.storage_network.interfaces import Interface
from cluster.storage_network.settings import AllowListMode, StorageNetworkSettings
from drivers import export_registry
from serve_app.command.records import _storage


def interface(name: str, *addresses: str, up: bool = True, mtu: int = 1500, speed: int | None = None) -> Interface:
    return Interface((name,), up, mtu, tuple(map(ipaddress.ip_address, addresses)), speed)


THERE = [
    interface("lo", "127.0.0.1", "::1", mtu=65536),
    interface("eth0", "192.0.2.5", "2001:db8::5"),
    Interface(
        ("eth1", "storage"), True, 9000, (ipaddress.ip_address("10.2.0.5"), ipaddress.ip_address("fd00::5")), 25000
    ),
    interface("eth2", "10.3.0.5", "10.3.0.6"),
    interface("eth3", "10.4.0.5", up=False),
    interface("eth4"),
]


def chosen(labels: dict[str, str] | None = None, address: str = "192.0.2.5", **settings: Any) -> Chosen:
    return choose(StorageNetworkSettings(**settings), labels or {}, address, THERE)


@pytest.mark.parametrize(
    ("settings", "name", "address"),
    [
        ({}, "eth0", "192.0.2.5"),
        ({"interface": "eth1"}, "eth1", "10.2.0.5"),
        ({"interface": "storage"}, "eth1", "10.2.0.5"),
        ({"subnet": "10.2.0.0/24"}, "eth1", "10.2.0.5"),
        ({"subnet": "10.2.0.99/24"}, "eth1", "10.2.0.5"),
        ({"subnet": "fd00::/64"}, "eth1", "fd00::5"),
        ({"subnet": "10.3.0.6/32"}, "eth2", "10.3.0.6"),
        ({"label": "nic"}, "eth1", "10.2.0.5"),
        ({"interface": "lo"}, "lo", "127.0.0.1"),
    ],
)
def test_what_is_said_is_chosen(settings: dict[str, str], name: str, address: str) -> None:
    found = chosen({"nic": "eth1"}, **settings)
    assert (found.interface, found.address) == (name, address)


def test_a_node_alone_stays_on_loopback() -> None:
    assert chosen(address="127.0.0.1").interface == "lo"


def test_an_address_that_is_forwarded_to_the_machine_belongs_to_no_interface() -> None:
    found = chosen(address="198.51.100.7", speed_mbps=1000)
    assert (found.interface, found.address, found.mtu, found.speed_mbps) == (None, "198.51.100.7", None, 1000)
    assert INTERFACE not in found.labels
    assert MTU not in found.labels


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (
            {"interface": "eth7"},
            "storage_network.interface: there is no interface 'eth7' on this machine; there are: lo 1",
        ),
        ({"interface": "eth2"}, "eth2 has 10.3.0.5, 10.3.0.6; choose one by storage_network.subnet"),
        ({"interface": "eth3"}, "eth3, which has 10.4.0.5, is down; ip link set eth3 up"),
        ({"interface": "eth4"}, "eth4 has no address that exports could use; there are: "),
        (
            {"subnet": "10.9.0.0/16"},
            "no interface of this machine has an address in 10.9.0.0/16; there are: lo 127.0.0.1",
        ),
        (
            {"subnet": "10.0.0.0/14"},
            "10.0.0.0/14 has 10.2.0.5 on eth1, 10.3.0.5 on eth2, 10.3.0.6 on eth2; give a small",
        ),
        ({"subnet": "10.4.0.0/16"}, "storage_network.subnet: eth3, which has 10.4.0.5, is down"),
        ({"label": "cable"}, "this node has no label 'cable' (its labels: nic); give it one that names the interface"),
        ({"label": "nic"}, "storage_network.label (nic=eth9): there is no interface 'eth9'"),
    ],
)
def test_what_cannot_be_is_said_with_what_is_there(settings: dict[str, str], said: str) -> None:
    with pytest.raises(SettingsError) as caught:
        chosen({"nic": "eth9"}, **settings)
    assert said in str(caught.value)


def test_the_list_of_what_is_there_says_addresses_and_what_is_down() -> None:
    with pytest.raises(SettingsError) as caught:
        chosen(interface="eth7")
    assert "eth1 10.2.0.5, fd00::5; eth2 10.3.0.5, 10.3.0.6; eth3 (down) 10.4.0.5; eth4 (no address)" in str(
        caught.value
    )


def test_speed_is_the_kernels_unless_it_is_said() -> None:
    assert chosen(interface="eth1").speed_mbps == 25000
    assert chosen(interface="eth1", speed_mbps=10000).speed_mbps == 10000
    assert chosen(interface="eth0").speed_mbps is None


def test_labels_say_what_is_known() -> None:
    assert chosen(interface="eth1").labels == {
        INTERFACE: "eth1",
        ADDRESS: "10.2.0.5",
        MTU: "9000",
        SPEED: "25000",
    }
    assert SPEED not in chosen(interface="eth0").labels


@pytest.mark.parametrize("address", ["10.2.0.5", "fd00::5", "::1", "2001:db8::a:0"])
def test_an_address_can_be_a_label_and_read_back(address: str) -> None:
    label = address_label(address)
    load({"labels": {"x": label}})  # it takes what Ray takes
    assert address_of({ADDRESS: label}) == address


def test_no_label_is_no_address() -> None:
    assert (address_of({}), address_of({ADDRESS: "h1"})) == (None, None)


def test_a_strange_name_becomes_a_label() -> None:
    there = [interface("eth0:1@br.", "10.2.0.5")]
    found = choose(StorageNetworkSettings(interface="eth0:1@br."), {}, "10.2.0.5", there)
    assert found.labels[INTERFACE] == "eth0-1-br"
    load({"labels": {"x": found.labels[INTERFACE]}})


def test_the_directory_remembers(tmp_path: Any) -> None:
    (tmp_path / "run").mkdir()
    assert Chosen.read(tmp_path) is None
    found = chosen(interface="eth1", allow_list="required")
    found.write(tmp_path)
    assert Chosen.read(tmp_path) == found


@pytest.mark.parametrize("text", ["", "{}", '{"interface": "eth1", "allow_list": "perhaps"}'])
def test_what_is_remembered_and_cannot_be_read_is_not_guessed(tmp_path: Any, text: str) -> None:
    """An allow-list that is required would be one where possible, and exports would be elsewhere."""
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "network.json").write_text(text)
    with pytest.raises(SettingsError, match=r"network.json.* cannot be read .*start the node anew"):
        Chosen.read(tmp_path)
    (tmp_path / "run" / "network.json").unlink()
    (tmp_path / "run" / "network.json").mkdir()
    with pytest.raises(SettingsError, match="IsADirectoryError"):
        Chosen.read(tmp_path)


@pytest.mark.parametrize(
    ("address", "listens"),
    [("198.51.100.7", "127.0.0.1"), ("2001:db8::7", "127.0.0.1"), ("10.2.0.5", "10.2.0.5"), ("127.0.0.1", "127.0.0.1")],
)
def test_exports_listen_on_what_the_machine_has(address: str, listens: str) -> None:
    found = chosen(address=address)
    assert ("exports listen on loopback" in str(_storage(found.labels))) is (listens != address)
    assert (found.listens, found.address, found.is_elsewhere) == (listens, address, address != listens)


@pytest.mark.parametrize(
    ("address", "options", "expected"),
    [
        ("127.0.0.1", {}, False),
        ("127.0.0.1", {"nbd": {"address": "10.2.0.5"}}, True),
        ("10.2.0.5", {}, True),
        ("10.2.0.5", {"nbd": {"address": "127.0.0.1"}}, False),
        ("10.2.0.5", {"nbd": {"address": "127.0.0.1"}, "iscsi": {"address": "::1"}}, False),
        ("198.51.100.7", {}, False),
    ],
)
def test_consumers_from_elsewhere_are_expected_where_an_export_listens(
    tmp_path: Any, address: str, options: dict[str, dict[str, str]], expected: bool
) -> None:
    names = ["local", *(["nbd"] if "iscsi" not in options else ["nbd", "iscsi"])]
    backend = BackendSettings(driver="reflink", exports=names, export_options=options)
    exports = [export_registry.create(name, options.get(name, {}), tmp_path, "fast", "h1") for name in names]
    assert is_expected(backend, exports, chosen(address=address)) is expected


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (
            {"interface": "eth1", "subnet": "10.2.0.0/24"},
            "storage_network: interface and subnet are given; one of them",
        ),
        ({"subnet": "10.2.0/24"}, "storage_network.subnet: '10.2.0/24' is no subnet; write it as 10.2.0.0/24 or fd00"),
        ({"interface": "a b"}, "storage_network.interface: 'a b' is no name of an interface"),
        ({"label": "a b"}, "storage_network.label: 'a b' is no key of a label"),
        (
            {"allow_list": "perhaps"},
            "storage_network.allow_list: Input should be 'required', 'where-possible' or 'off'",
        ),
        ({"speed_mbps": 0}, "storage_network.speed_mbps: "),
        ({"mtu": 1}, "storage_network.mtu: no such setting"),
    ],
)
def test_settings_that_do_not_fit_are_refused_with_their_name(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(SettingsError) as caught:
        load({"storage_network": settings})
    assert said in str(caught.value)


def test_variables_set_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PUMICE_STORAGE_NETWORK__SUBNET", "10.2.0.0/24")
    monkeypatch.setenv("PUMICE_STORAGE_NETWORK__ALLOW_LIST", "off")
    found = load().storage_network
    assert (found.subnet, found.allow_list) == ("10.2.0.0/24", AllowListMode.OFF)


def test_a_nodes_own_settings_go_before_the_instances() -> None:
    wide = StorageNetworkSettings(subnet="10.2.0.0/24", allow_list=AllowListMode.REQUIRED)
    assert StorageNetworkSettings().under(wide) == wide
    own = StorageNetworkSettings(interface="ib0", speed_mbps=40000).under(wide)
    assert (own.interface, own.subnet, own.speed_mbps, own.allow_list) == ("ib0", None, 40000, AllowListMode.REQUIRED)
    lax = StorageNetworkSettings(allow_list=AllowListMode.OFF).under(wide)
    assert (lax.subnet, lax.allow_list) == ("10.2.0.0/24", AllowListMode.OFF)
