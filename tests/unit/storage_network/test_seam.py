"""What exports tell of those who come over TCP, and what becomes of a consumer whose rules cannot be kept."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import pytest

from actors.volume_host import VolumeHost
from cluster.scheduling.extra_specs import requirements
from cluster.scheduling.pool_state import PoolState
from cluster.services.report import LeaseAnswer, ServiceReport
from cluster.storage_network.chosen import Chosen
from cluster.storage_network.settings import AllowListMode
from cluster.storage_network.ways import Ways
from drivers.memory import MemoryStore
from drivers.vocabulary import (
    GIB,
    AccessMode,
    BackendUnavailableError,
    ConnectionSpec,
    Limits,
    Portal,
    UncertainError,
    UnsupportedError,
    VolumeSpec,
)
from tests.unit.attachments.memory_export import ExportStore, MemoryExport, PathBackend
from tests.unit.storage_network.test_ways import Kernel

V1, C1, C2 = (f"00000000-0000-4000-8000-{number:012d}" for number in (1, 2, 3))


class TcpExport(MemoryExport):
    """Everybody but consumers of the node `here` comes over TCP, each to a port of its own."""

    async def portal(self, connection_id: str) -> Portal | None:
        spec = self.store.served[connection_id]
        return None if spec.connector["host"] == "here" else Portal("10.2.0.5", int(connection_id[-2:]))

    def by_network(self, limits: Limits) -> Limits:
        return Limits(read_bytes=limits.read_bytes)


class Stage:
    def __init__(self, directory: Path) -> None:
        self.kernel, self.store, self.reports = Kernel("storage_rule"), ExportStore(), list[ServiceReport]()
        self.directory, self.others = directory, list[TcpExport]()
        self.host = self.made()

    def made(self) -> VolumeHost:
        chosen = Chosen("eth1", "10.2.0.5", 9000, 25000, AllowListMode.REQUIRED)
        self.export = TcpExport(self.store, "nbd")
        return VolumeHost(
            "here@fast",
            PathBackend(store=MemoryStore({"pool": GIB})),
            availability_zone="nova",
            node_labels={},
            heartbeat=0.001,
            process="process",
            report=self._report,
            exports=[self.export, *self.others],
            network=Ways("here@fast", self.directory / "ways", [self.kernel], chosen.capabilities),
        )

    async def _report(self, report: ServiceReport) -> LeaseAnswer:
        self.reports.append(report)
        return LeaseAnswer(epoch=1, seconds=60.0, holder="process")

    async def call(self, method: str, *args: Any) -> Any:
        return await self.host.call(method, "pool", args, epoch=1, request_id="r", resource_id="c")

    async def connect(self, connection_id: str = C1, **connector: str) -> Any:
        limits = Limits(read_bytes=1 << 20, write_bytes=1 << 20)
        mode = AccessMode.READ_WRITE
        spec = ConnectionSpec(connection_id, V1, 1, mode, {"host": "there", **connector}, "ab" * 32, limits=limits)
        return await self.call("ensure_connection", spec)

    async def served(self) -> set[str]:
        return {item.id for item in await self.host.connections(epoch=1)}


@pytest.fixture
async def stage(tmp_path: Path) -> Stage:
    made = Stage(tmp_path)
    await made.host.beat()
    await made.call("ensure_volume", VolumeSpec(V1, 1))
    return made


async def test_a_consumer_from_elsewhere_is_told_of_with_where_it_comes_from(stage: Stage) -> None:
    await stage.connect(ip="10.2.0.9")
    [way] = stage.kernel.ways
    assert (way.connection_id, way.volume_id, way.portal) == (C1, V1, Portal("10.2.0.5", 2))
    assert (way.consumer, way.is_local, way.limits) == ("10.2.0.9", False, Limits(read_bytes=1 << 20))
    await stage.call("ensure_connection_absent", C1, V1)
    assert stage.kernel.ways == []


async def test_a_consumer_that_comes_by_another_way_is_not(stage: Stage) -> None:
    await stage.connect(host="here")
    assert stage.kernel.ways == []
    assert await stage.served() == {C1}


async def test_a_port_keeps_its_rules_until_it_is_closed(stage: Stage) -> None:
    await stage.connect(ip="10.2.0.9")
    stage.export.broken["ensure_connection_absent"] = BackendUnavailableError("away")
    with pytest.raises(BackendUnavailableError):
        await stage.call("ensure_connection_absent", C1, V1)
    assert [way.connection_id for way in stage.kernel.ways] == [C1]


@pytest.mark.parametrize(
    ("error", "told"),
    [(BackendUnavailableError("no packet filter"), BackendUnavailableError), (struct.error(), UncertainError)],
)
async def test_a_consumer_whose_rules_cannot_be_kept_is_not_let_in(
    stage: Stage, error: Exception, told: type[Exception]
) -> None:
    stage.kernel.broken = error
    with pytest.raises(told):
        await stage.connect(ip="10.2.0.9")
    assert stage.store.served == {}
    stage.kernel.broken, stage.kernel.refuses = None, True
    with pytest.raises(UnsupportedError):
        await stage.connect()
    assert stage.store.served == {}


async def test_one_that_was_let_in_is_not_cut_off_when_the_rules_fail_later(stage: Stage) -> None:
    await stage.connect(ip="10.2.0.9")
    stage.kernel.broken = BackendUnavailableError("no packet filter")
    with pytest.raises(BackendUnavailableError):
        await stage.connect(ip="10.2.0.9")
    assert await stage.served() == {C1}
    stage.host = stage.made()
    await stage.host.beat()
    await stage.call("ensure_volume", VolumeSpec(V1, 1))
    with pytest.raises(BackendUnavailableError):
        await stage.connect(ip="10.2.0.9")
    assert await stage.served() == {C1}, "nor by the next life"


async def test_one_whose_daemon_died_for_a_moment_is_not_cut_off_when_the_rules_fail_then(stage: Stage) -> None:
    """The comparison has forgotten its way meanwhile."""
    await stage.connect(ip="10.2.0.9")
    stage.store.served.clear()
    assert await stage.served() == set()
    assert stage.kernel.ways == []
    stage.kernel.broken = BackendUnavailableError("no packet filter")
    with pytest.raises(BackendUnavailableError):
        await stage.connect(ip="10.2.0.9")
    assert set(stage.store.served) == {C1}
    stage.kernel.broken = None
    await stage.connect(ip="10.2.0.9")
    assert (await stage.served(), len(stage.kernel.ways)) == ({C1}, 1)


async def test_one_that_was_shut_out_is_new_again(stage: Stage) -> None:
    await stage.connect(ip="10.2.0.9")
    await stage.call("ensure_connection_absent", C1, V1)
    stage.kernel.broken = BackendUnavailableError("no packet filter")
    with pytest.raises(BackendUnavailableError):
        await stage.connect(ip="10.2.0.9")
    assert stage.store.served == {}


@pytest.mark.parametrize("call", ["open", "connections"])
async def test_an_export_that_does_not_answer_keeps_no_rule_of_another_from_being_mended(
    stage: Stage, call: str
) -> None:
    await stage.connect(ip="10.2.0.9")
    stage.others.append(broken := TcpExport(ExportStore(), "iSCSI"))
    broken.broken[call] = BackendUnavailableError("its daemon does not answer")
    stage.host = stage.made()
    await stage.host.beat()
    [way], stage.kernel.ways = stage.kernel.ways, []  # as when somebody flushed them
    with pytest.raises(BackendUnavailableError):
        await stage.served()
    assert stage.kernel.ways == [way]


async def test_a_new_life_declares_the_rules_before_anybody_asks(stage: Stage) -> None:
    await stage.connect(ip="10.2.0.9")
    before, stage.kernel.ways = stage.kernel.ways, []
    stage.host = stage.made()
    await stage.host.beat()
    assert stage.kernel.ways == before


async def test_a_connection_of_which_nothing_is_remembered_is_let_in_again(stage: Stage) -> None:
    """The conductor opens again what its host does not name."""
    await stage.connect(ip="10.2.0.9")
    await stage.connect(C2, host="here")
    for file in (stage.directory / "ways").iterdir():
        file.unlink()
    stage.host = stage.made()
    await stage.host.beat()
    assert await stage.served() == {C2}
    await stage.call("ensure_volume", VolumeSpec(V1, 1))
    await stage.connect(ip="10.2.0.9")
    assert await stage.served() == {C1, C2}


@pytest.mark.parametrize(
    ("specs", "fits"),
    [
        ({"storage_speed_mbps": ">= 10000"}, True),
        ({"storage_speed_mbps": ">= 40000"}, False),
        ({"capabilities:storage_mtu": "== 9000"}, True),
        ({"storage_interface": "eth1"}, True),
        ({"storage_rule": "kept"}, True),
    ],
)
async def test_a_type_can_ask_for_a_network(stage: Stage, specs: dict[str, str], fits: bool) -> None:
    [report] = stage.reports[-1].pools
    pool = PoolState.of_report(
        "here@fast", report, backend_name="fast", availability_zone="nova", reported_at="2026-11-22T00:00:00"
    )
    assert all(asked.met_by(pool) for asked in requirements(specs)) is fits
