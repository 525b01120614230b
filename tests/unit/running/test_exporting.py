"""The exports of a volume host: opened beside the backend, picked for a consumer, asked under the host's epoch."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from actors.exporting import Exporting
from actors.volume_host import VolumeHost
from cluster.services.report import LeaseAnswer, ServiceReport
from drivers.memory import MemoryBackend, MemoryStore
from drivers.protocols import Backend, Export
from drivers.vocabulary import (
    GIB,
    AccessMode,
    BackendUnavailableError,
    ConnectionSpec,
    FinalError,
    SourceMissingError,
    StaleEpochError,
    UncertainError,
    UnsupportedError,
    VolumeSpec,
)
from tests.unit.attachments.memory_export import ExportStore, MemoryExport, PathBackend

V1, C1, C2, C3 = (f"00000000-0000-4000-8000-{number:012d}" for number in (1, 2, 3, 4))


class Stage:
    """A volume host with two exports, and what it reported."""

    def __init__(self, backend: Backend | None = None) -> None:
        self.first, self.second = MemoryExport(ExportStore(), "nbd"), MemoryExport(ExportStore(), "iSCSI")
        self.backend = backend or PathBackend(store=MemoryStore({"pool": GIB}))
        self.reports: list[ServiceReport] = []
        exports: list[Export] = [self.first, self.second]
        self.host = VolumeHost(
            *("h1@left", self.backend),
            availability_zone="nova",
            node_labels={},
            heartbeat=0.001,
            process="here",
            report=self._report,
            exports=exports,
        )

    async def _report(self, report: ServiceReport) -> LeaseAnswer:
        self.reports.append(report)
        return LeaseAnswer(epoch=1, seconds=60.0, holder="here")

    async def call(self, method: str, *args: Any, epoch: int = 1) -> Any:
        return await self.host.call(method, "pool", args, epoch=epoch, request_id="r", resource_id="c")

    async def connect(self, connection_id: str = C1, host: str = "n1", protocol: str | None = None) -> Any:
        mode = AccessMode.READ_WRITE
        spec = ConnectionSpec(connection_id, V1, 1, mode, {"host": host} if host else {}, "ab" * 32, protocol)
        return await self.call("ensure_connection", spec)


@pytest.fixture
async def stage() -> Stage:
    made = Stage()
    await made.host.beat()
    await made.call("ensure_volume", VolumeSpec(V1, 1))
    return made


async def test_a_pool_says_how_its_volumes_are_reached(stage: Stage) -> None:
    [pool] = stage.reports[-1].pools
    assert (pool.capabilities.storage_protocol, pool.capabilities.protocols) == ("nbd", ("nbd", "iSCSI"))
    assert pool.capabilities.multiattach


async def test_the_first_export_that_serves_is_taken_or_the_one_that_is_named(stage: Stage) -> None:
    assert (await stage.connect()).driver_volume_type == "nbd"
    assert (await stage.connect(C2, protocol="iscsi")).driver_volume_type == "iSCSI"
    assert (stage.first.store.served.keys(), stage.second.store.served.keys()) == ({C1}, {C2})
    assert {item.id for item in await stage.host.connections(epoch=1)} == {C1, C2}
    for one in (C1, C2, C1):
        await stage.call("ensure_connection_absent", one, V1)
    assert await stage.host.connections(epoch=1) == []


@pytest.mark.parametrize(("host", "protocol"), [("", None), ("n1", "nfs")])
async def test_a_consumer_that_no_export_serves_is_refused(stage: Stage, host: str, protocol: str | None) -> None:
    with pytest.raises(UnsupportedError, match="its exports: nbd, iSCSI"):
        await stage.connect(host=host, protocol=protocol)


async def test_who_is_let_in_stays_at_his_export_also_after_a_restart(stage: Stage) -> None:
    """The first would serve him, were he new."""
    await stage.connect(C1, protocol="iSCSI")
    assert (await stage.connect(C1)).driver_volume_type == "iSCSI"
    successor = Exporting("h1@left", stage.backend, [stage.first, stage.second])
    await successor.open()
    spec = stage.second.store.served[C1]
    assert (await successor.ensure_connection("pool", replace(spec, protocol=None))).driver_volume_type == "iSCSI"
    assert stage.first.store.served == {}
    await successor.ensure_connection_absent(C1, V1)
    assert (await successor.ensure_connection("pool", replace(spec, protocol=None))).driver_volume_type == "nbd"


async def test_a_volume_that_is_not_there_is_not_exported(stage: Stage) -> None:
    await stage.call("ensure_volume_absent", V1)
    with pytest.raises(SourceMissingError):
        await stage.connect()


async def test_a_backend_without_names_for_its_bytes_exports_nothing() -> None:
    stage = Stage(MemoryBackend(store=MemoryStore({"pool": GIB})))
    await stage.host.beat()
    await stage.call("ensure_volume", VolumeSpec(V1, 1))
    with pytest.raises(UnsupportedError, match="neither files nor devices"):
        await stage.connect()
    await stage.call("ensure_connection_absent", C1, V1)
    assert await stage.host.connections(epoch=1) == []
    [pool] = stage.reports[-1].pools
    assert (pool.capabilities.storage_protocol, pool.capabilities.multiattach) == ("memory", False)


@pytest.mark.parametrize("error", [BackendUnavailableError("no port is free"), OSError("defect")])
async def test_an_export_that_cannot_be_opened_stops_nothing_else_and_is_tried_again(error: Exception) -> None:
    stage = Stage()
    stage.first.broken["open"] = error
    await stage.host.beat()
    await stage.call("ensure_volume", VolumeSpec(V1, 1))
    assert stage.reports[-1].backend_up
    assert (await stage.connect(protocol="iSCSI")).driver_volume_type == "iSCSI"
    with pytest.raises(BackendUnavailableError, match="export nbd of h1@left is not open"):
        await stage.connect(C2)
    with pytest.raises(BackendUnavailableError):
        await stage.host.connections(epoch=1)
    await stage.call("ensure_size", V1, 2)
    await stage.call("ensure_connection_absent", C1, V1)
    assert stage.second.store.served == {}
    stage.first.broken.clear()
    await stage.host.beat()
    assert (await stage.connect()).driver_volume_type == "nbd"


async def test_storage_that_is_lost_closes_the_exports_and_what_they_serve_stays(stage: Stage) -> None:
    await stage.connect()
    stage.first.broken["close"] = RuntimeError("defect")

    async def lost() -> Any:
        raise BackendUnavailableError("unmounted")

    stage.backend.pools = lost  # type: ignore[method-assign]
    await stage.host.beat()
    with pytest.raises(BackendUnavailableError):
        await stage.connect()
    del stage.backend.pools  # type: ignore[method-assign]
    await stage.host.beat()
    assert [item.id for item in await stage.host.connections(epoch=1)] == [C1]


async def test_one_export_that_fails_keeps_no_other_from_being_asked(stage: Stage) -> None:
    await stage.connect()
    await stage.connect(C1, protocol="iSCSI")
    stage.first.broken["ensure_connection_absent"] = FinalError("held")
    with pytest.raises(FinalError):
        await stage.call("ensure_connection_absent", C1, V1)
    assert (stage.first.store.served.keys(), stage.second.store.served.keys()) == ({C1}, set())


async def test_a_volume_that_grew_is_told_to_every_export(stage: Stage) -> None:
    await stage.call("ensure_size", V1, 2)
    assert (stage.first.store.resized, stage.second.store.resized) == ([V1], [V1])
    stage.second.broken["resized"] = FinalError("busy")
    with pytest.raises(UncertainError, match="grew"):
        await stage.call("ensure_size", V1, 3)
    stage.second.broken.clear()
    await stage.call("ensure_size", V1, 3)
    assert stage.second.store.resized == [V1, V1]


async def test_a_replaced_conductor_connects_nobody(stage: Stage) -> None:
    await stage.call("ensure_size", V1, 1, epoch=7)
    for act in (stage.connect(), stage.call("ensure_connection_absent", C1, V1), stage.host.connections(epoch=1)):
        with pytest.raises(StaleEpochError):
            await act
    assert stage.first.store.served == {}


async def test_a_defect_of_an_export_is_uncertain_and_tells_nothing(stage: Stage) -> None:
    stage.first.broken["ensure_connection"] = OSError("/srv/secret")
    with pytest.raises(UncertainError) as refused:
        await stage.connect()
    assert "secret" not in str(refused.value)


class Ending(MemoryExport):
    """Says how often it was ended."""

    ended = 0

    async def end(self) -> None:
        self._pass("end")
        assert not self.store.served
        self.ended += 1


def _host(stage: Stage, leaving: Export) -> VolumeHost:
    """The same backend with the first export alone, after the settings have dropped `leaving`."""
    return VolumeHost(
        *("h1@left", stage.backend),
        availability_zone="nova",
        node_labels={},
        heartbeat=0.001,
        process="here",
        report=stage._report,
        exports=[stage.first],
        leaving=[leaving],
    )


async def test_an_export_that_was_dropped_keeps_its_consumers_takes_nobody_new_and_ends_with_the_last(
    stage: Stage,
) -> None:
    for one in (C1, C2):
        await stage.connect(one, protocol="iscsi")
    leaving = Ending(stage.second.store, "iSCSI")
    stage.host = _host(stage, leaving)
    await stage.host.beat()
    [pool] = stage.reports[-1].pools
    assert pool.capabilities.protocols == ("nbd",)
    assert {item.id for item in await stage.host.connections(epoch=1)} == {C1, C2}
    assert (await stage.connect(C1, protocol="iscsi")).driver_volume_type == "iSCSI", "made again as it was"
    with pytest.raises(UnsupportedError, match=r"its exports: nbd$"):
        await stage.connect(C3, protocol="iscsi")
    assert (await stage.connect(C3)).driver_volume_type == "nbd"

    await stage.call("ensure_connection_absent", C1, V1)
    await stage.host.beat()
    assert (leaving.ended, stage.second.store.served.keys()) == (0, {C2})
    await stage.call("ensure_connection_absent", C2, V1)
    for _ in range(2):
        await stage.host.beat()
    assert leaving.ended == 1
    assert {item.id for item in await stage.host.connections(epoch=1)} == {C3}
    assert (await stage.connect(C1)).driver_volume_type == "nbd"


async def test_what_a_dropped_export_served_is_made_again_by_it_when_it_died(stage: Stage) -> None:
    await stage.connect(C1, protocol="iscsi")
    leaving = Ending(stage.second.store, "iSCSI")
    stage.host = _host(stage, leaving)
    await stage.host.beat()
    leaving.store.served.clear()
    await stage.host.beat()
    assert leaving.ended == 0
    assert (await stage.connect(C1, protocol="iscsi")).driver_volume_type == "iSCSI"
    assert leaving.store.served.keys() == {C1}


async def test_a_dropped_export_that_serves_nobody_is_ended_at_once(stage: Stage) -> None:
    leaving = Ending(ExportStore(), "iSCSI")
    stage.host = _host(stage, leaving)
    await stage.host.beat()
    assert leaving.ended == 1


@pytest.mark.parametrize("call", ["connections", "end"])
async def test_a_dropped_export_that_does_not_say_is_asked_again_and_stops_nothing_else(
    stage: Stage, call: str
) -> None:
    leaving = Ending(ExportStore(), "iSCSI")
    leaving.broken[call] = BackendUnavailableError("its daemon does not answer")
    stage.host = _host(stage, leaving)
    await stage.host.beat()
    assert (leaving.ended, stage.host.may_act) == (0, True)
    assert (await stage.connect()).driver_volume_type == "nbd"
    leaving.broken.clear()
    await stage.host.beat()
    assert leaving.ended == 1
