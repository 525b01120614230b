"""Who reaches a port, by real packets between network namespaces: an export's, a consumer's, and a stranger's."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
import structlog

from cluster.storage_network import nft
from cluster.storage_network.allow_list import CAPABILITY, AllowList, ruleset, table_name, table_prefix
from cluster.storage_network.seam import Way
from cluster.storage_network.settings import AllowListMode
from drivers.vocabulary import BackendUnavailableError, Portal, UnsupportedError
from tests.conformance.storage_network.namespaces import Space, cable, space

TABLE = table_name("0123456789abcdef", "fast")
SERVER, CONSUMER, STRANGER = "10.99.1.1", "10.99.1.2", "10.99.2.2"
SERVER6, CONSUMER6 = "fd99:1::1", "fd99:1::2"
REFUSED = (ConnectionRefusedError, ConnectionResetError)


@dataclass
class Places:
    """`server` has a cable to each of the others, and they reach all its addresses."""

    server: Space
    consumer: Space
    stranger: Space

    def keep(self, mode: AllowListMode, *ways: Way) -> AllowList:
        """An allow-list on the server, with these ways declared."""
        kept = AllowList(TABLE, mode, is_expected=True)
        self.declare(kept, *ways)
        return kept

    def declare(self, kept: AllowList, *ways: Way) -> None:
        self.server.do(lambda: asyncio.run(kept.apply(ways)))

    @contextlib.contextmanager
    def listening(self, address: str = SERVER) -> Iterator[int]:
        """A port of the server that takes connections."""
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        both = address == "::"
        listener = self.server.do(lambda: socket.create_server((address, 0), family=family, dualstack_ipv6=both))
        with listener:
            yield listener.getsockname()[1]


@pytest.fixture(scope="module")
def made() -> Iterator[Places]:
    with space() as server, space() as consumer, space() as stranger:
        cable(server, consumer, 1)
        cable(server, stranger, 2)
        stranger.ip("route", "add", "10.99.1.0/24", "via", "10.99.2.1")
        stranger.ip("route", "add", "fd99:1::/64", "via", "fd99:2::1")
        yield Places(server, consumer, stranger)


@pytest.fixture
def places(made: Places) -> Iterator[Places]:
    yield made
    assert made.server.do(lambda: nft.clear("pumice-")) == []


def way(port: int, consumer: str | None = CONSUMER, address: str = SERVER, *, local: bool = False) -> Way:
    return Way(f"c{port}", "v1", Portal(address, port), consumer, local)


def reaches(place: Space, port: int, address: str = SERVER) -> bool:
    def connect() -> bool:
        try:
            socket.create_connection((address, port), timeout=5).close()
        except REFUSED:
            return False
        return True

    return place.do(connect)


@pytest.mark.parametrize("mode", [AllowListMode.REQUIRED, AllowListMode.WHERE_POSSIBLE])
@pytest.mark.parametrize(
    ("address", "target"),
    [
        (SERVER, SERVER),
        ("0.0.0.0", SERVER),
        ("0.0.0.0", "10.99.2.1"),
        (SERVER6, SERVER6),
        ("::", SERVER6),
        ("::", SERVER),
    ],
)
def test_only_the_consumer_reaches_the_port(places: Places, mode: AllowListMode, address: str, target: str) -> None:
    sources = {SERVER: CONSUMER, SERVER6: CONSUMER6, "10.99.2.1": "10.99.1.2"}
    with places.listening(address) as port:
        if target == "10.99.2.1":
            places.consumer.ip("route", "replace", "10.99.2.0/24", "via", "10.99.1.1")
        assert reaches(places.stranger, port, target), "nothing else keeps the stranger out"
        kept = places.keep(mode, way(port, sources[target], address))
        assert kept.shown() == {CAPABILITY: "kept"}
        assert reaches(places.consumer, port, target)
        assert not reaches(places.stranger, port, target)
        assert reaches(places.server, port, target), "this node itself comes by its loopback"
        places.declare(kept)
        assert reaches(places.stranger, port, target), "the rules are gone with the connection"
        assert places.server.do(lambda: nft.tables("pumice-")) == []


def test_off_keeps_nobody_out_and_removes_what_an_earlier_setting_made(places: Places) -> None:
    with places.listening() as port:
        places.keep(AllowListMode.REQUIRED, way(port))
        assert not reaches(places.stranger, port)
        kept = places.keep(AllowListMode.OFF, way(port))
        assert reaches(places.stranger, port)
        assert kept.shown() == {CAPABILITY: "off"}


def test_each_port_has_its_own_consumers_and_other_ports_are_let_alone(places: Places) -> None:
    with places.listening() as mine, places.listening() as theirs, places.listening() as nobodys:
        places.keep(AllowListMode.REQUIRED, way(mine), way(theirs, STRANGER))
        assert (reaches(places.consumer, mine), reaches(places.stranger, mine)) == (True, False)
        assert (reaches(places.consumer, theirs), reaches(places.stranger, theirs)) == (False, True)
        assert reaches(places.consumer, nobodys)
        assert reaches(places.stranger, nobodys)


def test_a_port_that_consumers_share_lets_in_every_one_of_them(places: Places) -> None:
    with places.listening() as port:
        kept = places.keep(AllowListMode.REQUIRED, way(port), way(port, STRANGER))
        assert reaches(places.consumer, port)
        assert reaches(places.stranger, port)
        places.declare(kept, way(port))
        assert not reaches(places.stranger, port)


def test_a_session_does_not_outlive_its_attachment(places: Places) -> None:
    """Nor does one that a stranger began before the rules were there."""
    with places.listening() as port:
        kept = places.keep(AllowListMode.REQUIRED, way(port))
        session = places.consumer.do(lambda: socket.create_connection((SERVER, port), timeout=5))
        with session:
            session.send(b"still there")
            places.declare(kept, way(port, STRANGER))
            session.settimeout(10)
            with contextlib.suppress(*REFUSED):
                session.send(b"and now")
            with pytest.raises(REFUSED):
                session.recv(1)


def test_a_consumer_of_this_node_needs_no_address(places: Places) -> None:
    with places.listening() as port:
        places.keep(AllowListMode.REQUIRED, way(port, None, local=True))
        assert reaches(places.server, port)
        assert not reaches(places.consumer, port)


def test_what_was_flushed_is_there_again(places: Places) -> None:
    with places.listening() as port:
        kept = places.keep(AllowListMode.REQUIRED, way(port))
        places.server.do(lambda: nft.run([{"flush": {"ruleset": None}}]))
        assert reaches(places.stranger, port)
        for _ in range(2):
            places.declare(kept, way(port))
            assert not reaches(places.stranger, port)


def test_all_or_nothing(places: Places) -> None:
    with places.listening() as port:
        places.keep(AllowListMode.REQUIRED, way(port))
        bad = [*ruleset(TABLE, []), {"add": {"chain": {"family": "inet", "table": "nowhere", "name": "x"}}}]
        with pytest.raises(nft.NftError, match="nft refused: "):
            places.server.do(lambda: nft.run(bad))
        assert not reaches(places.stranger, port), "the table is still there"


def test_only_an_instances_own_tables_are_cleared(places: Places) -> None:
    other = table_name("fedcba9876543210", "fast")
    for table in (TABLE, table_name("0123456789abcdef", "slow.x"), other):
        places.server.do(lambda table=table: nft.run(ruleset(table, [way(1)])))
    assert places.server.do(lambda: nft.clear(table_prefix("0123456789abcdef"))) == []
    assert places.server.do(lambda: nft.tables("pumice-")) == [other]


def test_a_port_of_the_loopback_is_not_guarded(places: Places) -> None:
    places.keep(AllowListMode.REQUIRED, way(9, "10.99.1.2", "127.0.0.1"))
    assert places.server.do(lambda: nft.tables("pumice-")) == []


@pytest.mark.parametrize(
    ("consumer", "address", "said"),
    [
        (None, SERVER, "its connector says no IP address"),
        ("h7", SERVER, "its connector says no IP address"),
        (f"{CONSUMER6}%eth0", SERVER6, "its connector says no IP address.*without a scope"),
        (CONSUMER6, SERVER, "its connector says fd99:1::2, and the export is reached by IPv4"),
        (CONSUMER, SERVER6, "its connector says 10.99.1.2, and the export is reached by IPv6"),
    ],
)
def test_a_consumer_that_cannot_be_told_is_refused(consumer: str | None, address: str, said: str) -> None:
    for mode in (AllowListMode.REQUIRED, AllowListMode.WHERE_POSSIBLE):
        with pytest.raises(UnsupportedError, match=said):
            AllowList(TABLE, mode, is_expected=True).refuse(way(9, consumer, address))
    AllowList(TABLE, AllowListMode.OFF, is_expected=True).refuse(way(9, consumer, address))
    AllowList(TABLE, AllowListMode.REQUIRED, is_expected=True).refuse(way(9, consumer, address, local=True))
    AllowList(TABLE, AllowListMode.REQUIRED, is_expected=True).refuse(way(9, consumer, "127.0.0.1"))


@pytest.mark.parametrize(("consumer", "address"), [(CONSUMER, "::"), (f"::ffff:{CONSUMER}", SERVER), (CONSUMER6, "::")])
def test_a_consumer_that_can_be_told_is_not(consumer: str, address: str) -> None:
    AllowList(TABLE, AllowListMode.REQUIRED, is_expected=True).refuse(way(9, consumer, address))


@pytest.fixture
def no_nft(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nft, "PROGRAM", "nft-that-is-nowhere")


@pytest.mark.usefixtures("no_nft")
async def test_where_it_need_not_be_kept_what_is_missing_is_said_once() -> None:
    kept = AllowList(TABLE, AllowListMode.WHERE_POSSIBLE, is_expected=True)
    with structlog.testing.capture_logs() as said:
        for _ in range(3):
            await kept.apply([])
            await kept.apply([way(9)])
    assert [line["event"] for line in said] == ["allow_list.not_kept"]
    because = "nft-that-is-nowhere is not on this node; install it (Debian: nftables)"
    assert kept.shown() == {CAPABILITY: f"not kept: {because}"}
    kept.refuse(way(9, None))  # as nobody is kept out, nobody need say where it is


@pytest.mark.usefixtures("no_nft")
async def test_where_it_is_required_nothing_goes_without() -> None:
    kept = AllowList(TABLE, AllowListMode.REQUIRED, is_expected=True)
    with pytest.raises(
        BackendUnavailableError, match=r"required \(storage_network.allow_list\): nft-that-is-nowhere is"
    ):
        await kept.apply([way(9)])
    assert kept.shown() == {
        CAPABILITY: "not kept: nft-that-is-nowhere is not on this node; install it (Debian: nftables)"
    }


@pytest.mark.usefixtures("no_nft")
@pytest.mark.parametrize("mode", list(AllowListMode))
async def test_a_node_alone_misses_nothing(mode: AllowListMode) -> None:
    kept = AllowList(TABLE, mode, is_expected=False)
    with structlog.testing.capture_logs() as said:
        await kept.apply([way(9, CONSUMER, "127.0.0.1")])
    assert said == []
    assert kept.shown() == ({CAPABILITY: "off"} if mode is AllowListMode.OFF else {})


def test_without_the_right_it_says_what_it_takes(places: Places, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a container has it that was given no right to its network."""
    real = nft.subprocess.run

    def without(command: list[str], **options: object) -> object:
        return real(["setpriv", "--bounding-set=-net_admin", *command], **options)

    monkeypatch.setattr(nft.subprocess, "run", without)
    with pytest.raises(nft.NftError, match=r"not permitted.* \(it needs root, or CAP_NET_ADMIN\)"):
        places.server.do(lambda: nft.run(ruleset(TABLE, [way(9)])))


@pytest.mark.parametrize("mode", [AllowListMode.REQUIRED, AllowListMode.WHERE_POSSIBLE])
@pytest.mark.parametrize("is_next_life", [False, True])
def test_rules_of_before_that_cannot_be_changed_let_nobody_new_in(
    places: Places, monkeypatch: pytest.MonkeyPatch, mode: AllowListMode, *, is_next_life: bool
) -> None:
    """They stay in the kernel: to say that any address reaches the ports would be wrong."""
    with places.listening() as port:
        kept = places.keep(mode, way(port))
        if is_next_life:
            kept = AllowList(TABLE, mode, is_expected=True)
        real = nft.run

        def fails(commands: object) -> None:
            raise nft.NftError("nft refused: Message too long")

        monkeypatch.setattr(nft, "run", fails)
        for _ in range(2):
            with pytest.raises(BackendUnavailableError, match=r"Message too long; the rules of before stay"):
                places.declare(kept, way(port), way(port, STRANGER))
        assert "the rules of before stay" in str(kept.shown()[CAPABILITY])
        assert (reaches(places.consumer, port), reaches(places.stranger, port)) == (True, False)
        with pytest.raises(UnsupportedError, match="says no IP address"):
            kept.refuse(way(port, None))
        monkeypatch.setattr(nft, "run", real)
        places.declare(kept, way(port), way(port, STRANGER))
        assert kept.shown() == {CAPABILITY: "kept"}
        assert reaches(places.stranger, port)
        places.declare(kept)


def test_one_consumer_that_says_what_the_kernel_does_not_take_keeps_no_rule_from_the_others(places: Places) -> None:
    """As a file of an earlier version may remember it."""
    with places.listening(SERVER6) as port:
        scoped = f"{CONSUMER6}%any text"
        kept = places.keep(AllowListMode.REQUIRED, way(port, CONSUMER6, SERVER6), way(port, scoped, SERVER6))
        assert kept.shown() == {CAPABILITY: "kept"}
        assert (reaches(places.consumer, port, SERVER6), reaches(places.stranger, port, SERVER6)) == (True, False)
        places.declare(kept)
