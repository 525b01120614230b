from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable
from typing import Any

import pytest
from structlog.testing import capture_logs

from actors.volume_host import VolumeHost
from cluster.services.report import LeaseAnswer, ServiceReport
from drivers.memory import MemoryBackend
from drivers.vocabulary import (
    GIB,
    BackendUnavailableError,
    InventoryItem,
    Observed,
    PoolReport,
    StaleEpochError,
    StorageError,
    UncertainError,
    UnsupportedError,
    VolumeSpec,
)

SECRET = "/srv/pools/left: held by process 4711"


class Broken(MemoryBackend):
    """A driver of which `broken` names the calls that fail; `admitted` are the epochs it was asked to obey."""

    def __init__(self) -> None:
        super().__init__({"pool": GIB})
        self.broken: dict[str, Exception] = {}
        self.admitted: list[int] = []
        self.marking: Callable[[int], Any] | None = None

    def _pass(self, call: str) -> None:
        if call in self.broken:
            raise self.broken[call]

    async def open(self) -> None:
        self._pass("open")
        await super().open()

    async def close(self) -> None:
        self._pass("close")
        await super().close()

    async def pools(self) -> list[PoolReport]:
        self._pass("pools")
        return await super().pools()

    async def inventory(self) -> list[InventoryItem]:
        self._pass("inventory")
        return await super().inventory()

    async def admit(self, epoch: int) -> None:
        self.admitted.append(epoch)
        if self.marking is not None:
            await self.marking(epoch)
        self._pass("admit")
        await super().admit(epoch)

    async def ensure_volume(self, pool: str, spec: VolumeSpec) -> Observed:
        self._pass("ensure_volume")
        return await super().ensure_volume(pool, spec)


class Stage:
    """A volume host over a driver that breaks, and what it reported."""

    def __init__(self) -> None:
        self.backend = Broken()
        self.reports: list[ServiceReport] = []
        self.host = VolumeHost(
            "host-1@left",
            self.backend,
            availability_zone="nova",
            node_labels={},
            heartbeat=0.001,
            process="p",
            report=self._report,
        )

    async def _report(self, report: ServiceReport) -> LeaseAnswer:
        self.reports.append(report)
        return LeaseAnswer(1 if report.backend_up else None, 60.0)

    @property
    def states(self) -> list[tuple[bool, list[str]]]:
        return [(report.backend_up, [pool.name for pool in report.pools]) for report in self.reports]

    async def make(self, volume_id: str, epoch: int) -> Observed:
        spec = VolumeSpec(volume_id, 1)
        observed = await self.host.call("ensure_volume", "pool", (spec,), epoch=epoch, request_id="r", resource_id="v")
        assert isinstance(observed, Observed)
        return observed

    async def volumes(self) -> set[str]:
        return {item.id for item in await MemoryBackend.inventory(self.backend)}


@pytest.fixture
async def stage() -> Stage:
    made = Stage()
    await made.host.beat()
    assert made.states == [(True, ["pool"])]
    return made


@pytest.fixture
def new_id() -> Callable[[], str]:
    return lambda: str(uuid.uuid4())


Ids = Callable[[], str]


@pytest.mark.parametrize("call", ["ensure_volume", "admit", "inventory"])
async def test_a_defect_of_the_driver_is_uncertain_and_tells_nothing(stage: Stage, new_id: Ids, call: str) -> None:
    stage.backend.broken[call] = ValueError(SECRET)
    method = "inventory" if call == "inventory" else "ensure_volume"
    with capture_logs() as events, pytest.raises(UncertainError) as caught:
        if call == "inventory":
            await stage.host.inventory(epoch=1)
        else:
            await stage.make(new_id(), 1)
    assert str(caught.value) == f"{method} on host-1@left: an unexpected error of the driver: ValueError"
    [event] = [event for event in events if event["event"] == "driver.defect"]
    assert event["exc_info"]
    assert (event["method"], event["log_level"]) == (method, "error")
    stage.backend.broken.clear()
    assert (await stage.make(new_id(), 1)).created


async def test_storage_errors_pass_as_they_are(stage: Stage, new_id: Ids) -> None:
    refusal = BackendUnavailableError("away")
    stage.backend.broken["ensure_volume"] = refusal
    with pytest.raises(BackendUnavailableError) as caught:
        await stage.make(new_id(), 1)
    assert caught.value is refusal
    with pytest.raises(UnsupportedError):
        await stage.host.call("ensure_tea", "pool", (), epoch=1, request_id="r", resource_id="v")


ERRORS = [RuntimeError(SECRET), NotADirectoryError(20, SECRET), BackendUnavailableError("unmounted")]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
async def test_whatever_fails_the_host_is_closed_until_it_works_again(new_id: Ids, error: Exception) -> None:
    stage = Stage()
    stage.backend.broken["open"] = error
    for _ in range(2):
        with capture_logs() as events:
            await stage.host.beat()
    assert events == [], "the same reason is logged once"
    said = "unmounted" if isinstance(error, StorageError) else f"unexpected error of the driver: {type(error).__name__}"
    with pytest.raises(BackendUnavailableError, match=said) as caught:
        await stage.make(new_id(), 1)
    assert SECRET not in str(caught.value)
    stage.backend.broken.clear()
    await stage.host.beat()
    stage.backend.broken |= {"pools": error, "close": error}
    with capture_logs() as events:
        await stage.host.beat()
    assert [event["event"] for event in events] == ["backend.lost", "backend.close_failed"]
    with pytest.raises(BackendUnavailableError, match=said):
        await stage.make(new_id(), 1)
    stage.backend.broken.clear()
    await stage.host.beat()
    assert stage.states == [(False, []), (False, []), (True, ["pool"]), (False, []), (True, ["pool"])]
    assert (await stage.make(new_id(), 1)).created


async def test_the_loop_ends_only_when_it_is_cancelled() -> None:
    stage = Stage()
    stage.backend.broken = dict.fromkeys(("open", "close"), RuntimeError(SECRET))
    loop = asyncio.create_task(stage.host.serve())

    async def until(states: list[tuple[bool, list[str]]]) -> None:
        while stage.states[-2:] != states:
            assert not loop.done()
            await asyncio.sleep(0.001)

    await until([(False, [])] * 2)
    stage.backend.broken.clear()
    await until([(True, ["pool"])] * 2)
    stage.backend.broken = dict.fromkeys(("pools", "close"), RuntimeError(SECRET))
    await until([(False, [])] * 2)
    loop.cancel()
    with pytest.raises(asyncio.CancelledError):
        await loop


class Gate:
    """The storage takes its time to write an epoch down."""

    def __init__(self, backend: Broken) -> None:
        self.reached, self.open = asyncio.Event(), asyncio.Event()
        backend.marking = self._wait

    async def _wait(self, _epoch: int) -> None:
        self.reached.set()
        await self.open.wait()


async def test_an_older_epoch_is_refused_while_a_newer_is_written_down(stage: Stage, new_id: Ids) -> None:
    old, new = new_id(), new_id()
    await stage.make(new_id(), 5)
    gate = Gate(stage.backend)
    newer = asyncio.create_task(stage.make(new, 9))
    await gate.reached.wait()
    with pytest.raises(StaleEpochError, match="epoch 5 was replaced by that of 9"):
        await stage.make(old, 5)
    gate.open.set()
    assert (await newer).created
    assert old not in await stage.volumes()


async def test_an_epoch_that_is_overtaken_while_it_is_written_down(stage: Stage, new_id: Ids) -> None:
    old, waiting, new = new_id(), new_id(), new_id()
    gate = Gate(stage.backend)
    older = [asyncio.create_task(stage.make(old, 5))]
    await gate.reached.wait()
    older.append(asyncio.create_task(stage.make(waiting, 5)))
    newer = asyncio.create_task(stage.make(new, 9))
    await asyncio.sleep(0)
    gate.open.set()
    results = await asyncio.gather(*older, return_exceptions=True)
    assert [type(result) for result in results] == [StaleEpochError, StaleEpochError]
    assert (await newer).created
    assert stage.backend.admitted == [5, 9]
    assert await stage.volumes() == {new}


async def test_two_first_calls_of_an_epoch(stage: Stage, new_id: Ids) -> None:
    """The storage is asked once, and neither acts before it has answered."""
    gate = Gate(stage.backend)
    volumes = {new_id(), new_id()}
    calls = [asyncio.create_task(stage.make(volume, 7)) for volume in volumes]
    await gate.reached.wait()
    for _ in range(5):
        await asyncio.sleep(0)
    assert await stage.volumes() == set()
    gate.open.set()
    await asyncio.gather(*calls)
    assert stage.backend.admitted == [7]
    assert await stage.volumes() == volumes


async def test_an_epoch_that_could_not_be_written_down(stage: Stage, new_id: Ids) -> None:
    """Its calls fail until it is; the older ones stay refused, for the newer conductor has shown that it is there."""
    await stage.make(new_id(), 5)
    stage.backend.broken["admit"] = BackendUnavailableError("no answer")
    before = await stage.volumes()
    for _ in range(2):
        with pytest.raises(BackendUnavailableError):
            await stage.make(new_id(), 9)
    with pytest.raises(StaleEpochError):
        await stage.make(new_id(), 5)
    assert await stage.volumes() == before
    stage.backend.broken.clear()
    assert (await stage.make(new_id(), 9)).created
    assert stage.backend.admitted == [5, 9, 9, 9]


async def test_a_caller_that_goes_away_while_its_epoch_is_written_down(stage: Stage, new_id: Ids) -> None:
    await stage.make(new_id(), 5)
    gate = Gate(stage.backend)
    gone = asyncio.create_task(stage.make(new_id(), 9))
    await gate.reached.wait()
    gone.cancel()
    await asyncio.gather(gone, return_exceptions=True)
    with pytest.raises(StaleEpochError):
        await stage.make(new_id(), 5)
    gate.open.set()
    assert (await stage.make(new_id(), 9)).created


async def test_storage_that_obeyed_another_while_it_was_closed(stage: Stage, new_id: Ids) -> None:
    await stage.make(new_id(), 5)
    stage.backend.broken["pools"] = BackendUnavailableError("unmounted")
    await stage.host.beat()
    stage.backend.broken.clear()
    stage.backend.store.admit(9)
    await stage.host.beat()
    with pytest.raises(StaleEpochError):
        await stage.make(new_id(), 5)
    assert (await stage.make(new_id(), 9)).created
