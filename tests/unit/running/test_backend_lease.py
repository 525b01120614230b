"""The lease of a backend: who gets it, who may act, who must end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import select
from sqlmodel import col

from actors.volume_host import VolumeHost
from cluster.lease_lost import LeaseLostError
from cluster.outside import Outside
from cluster.scheduling.desk import VOLUME_BINARY, Desk
from cluster.services import leases
from cluster.services.records import Service
from cluster.services.report import LeaseAnswer, ServiceReport, holder_name
from cluster.settings import Settings, TimingSettings
from cluster.store.open import migrate, open_store
from cluster.store.seam import Store, StoreUnavailableError
from drivers.memory import MemoryBackend
from drivers.vocabulary import GIB, BackendUnavailableError, Observed, VolumeSpec

LIFE = 12.0
PLACE = "boot:1:2"


class Clock:
    """Time stands still until it is moved."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Held(MemoryBackend):
    """A driver that holds a place while it is open."""

    @property
    def place(self) -> str | None:
        return PLACE if self._epoch is not None else None


class Cluster:
    """A desk, and volume hosts of one name that report to it unless `away` says otherwise."""

    def __init__(self, store: Store, settings: Settings) -> None:
        self.wall, self.clock = Clock(), Clock()
        self.store = store
        self.desk = Desk(store, Outside(seconds=self.wall, monotonic=self.clock), settings)
        self.away = False
        self.reports: list[ServiceReport] = []

    def host(self, process: str, backend: MemoryBackend | None = None) -> VolumeHost:
        return VolumeHost(
            "h@b",
            backend or MemoryBackend({"pool": GIB}),
            availability_zone=process,  # the service's zone tells whose report was written
            node_labels={},
            heartbeat=3.0,
            process=process,
            report=self._report,
            clock=self.clock,
        )

    async def _report(self, report: ServiceReport) -> LeaseAnswer:
        self.reports.append(report)
        if self.away:
            raise StoreUnavailableError("away")
        return await self.desk.report(report)

    def later(self, seconds: float) -> None:
        self.wall.now += seconds
        self.clock.now += seconds

    async def service(self) -> tuple[str, str]:
        """Whose report was written last, and the backend's state."""
        rows = await self.store.read(
            lambda db: db.execute(
                select(col(Service.availability_zone), col(Service.backend_state)).where(
                    col(Service.binary) == VOLUME_BINARY
                )
            ).all()
        )
        return rows[0][0], rows[0][1]


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[Cluster]:
    settings = Settings(state_dir=tmp_path, host_name="h", timing=TimingSettings(backend_lease=LIFE))
    await migrate(settings.database)
    store = open_store(settings.database)
    yield Cluster(store, settings)
    await store.close()


_MADE = iter(range(1, 1000))


async def make(host: VolumeHost) -> Observed:
    volume_id = f"00000000-0000-4000-8000-{next(_MADE):012d}"
    observed = await host.call(
        "ensure_volume", "pool", (VolumeSpec(volume_id, 1),), epoch=1, request_id="r", resource_id="v"
    )
    assert isinstance(observed, Observed)
    return observed


async def refused(host: VolumeHost) -> bool:
    with pytest.raises(BackendUnavailableError) as caught:
        await make(host)
    return "has no valid lease" in str(caught.value)


async def test_a_host_acts_while_it_is_answered_and_not_longer(cluster: Cluster) -> None:
    host = cluster.host("a")
    cluster.away = True
    await host.beat()
    assert await refused(host), "nobody gave it the lease yet"
    cluster.away = False
    await host.beat()
    cluster.away = True
    cluster.later(LIFE - 0.1)
    await host.beat()
    assert (await host.inventory(epoch=1)) == []
    cluster.later(0.1)
    assert await refused(host)
    with pytest.raises(BackendUnavailableError):
        await host.inventory(epoch=1)
    cluster.away = False
    await host.beat()
    assert (await make(host)).created


async def test_another_process_waits_until_the_lease_is_over_and_the_first_ends(cluster: Cluster) -> None:
    first, second = cluster.host("a"), cluster.host("b")
    await first.beat()
    await second.beat()
    assert await refused(second)
    assert await cluster.service() == ("a", "up"), "of a process without the lease nothing is written"
    cluster.later(LIFE)
    await second.beat()
    assert await refused(first)
    assert await refused(second), "the records keep the lease longer than its holder"
    cluster.later(LIFE * 0.1)
    await second.beat()
    assert (await make(second)).created
    assert await cluster.service() == ("b", "up")
    with pytest.raises(LeaseLostError):
        await first.beat()
    with pytest.raises(BackendUnavailableError, match="another process acts"):
        await make(first)


async def test_the_loop_of_a_host_that_was_replaced_ends_whatever_its_driver_is_at(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def never() -> None:
        await asyncio.Event().wait()

    backend = MemoryBackend({"pool": GIB})
    monkeypatch.setattr(backend, "close", never)  # as one that waits for its longest copy
    first, second = cluster.host("a", backend), cluster.host("b")
    await first.beat()
    cluster.later(2 * LIFE)
    await second.beat()
    async with asyncio.timeout(30):
        with pytest.raises(LeaseLostError):
            await first.serve()


async def test_who_holds_the_same_place_later_need_not_wait(cluster: Cluster) -> None:
    store = MemoryBackend({"pool": GIB}).store
    first, second = cluster.host("a", Held(store=store)), cluster.host("b", Held(store=store))
    await first.beat()
    late = cluster.reports[-1]
    cluster.later(0.5)
    await second.beat()
    assert (await make(second)).created
    answer = await cluster.desk.report(late)
    assert answer.epoch is None, "a report that was long under way takes nothing back"
    assert (await make(second)).created


async def test_a_storage_that_closes_gives_the_lease_back(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    backend = MemoryBackend({"pool": GIB})
    first, second = cluster.host("a", backend), cluster.host("b")
    await first.beat()
    await backend.close()
    await first.beat()
    assert await cluster.service() == ("a", "down")
    await second.beat()
    assert (await make(second)).created
    assert await cluster.service() == ("b", "up")


async def test_a_process_that_opens_its_storage_again_goes_on_in_a_later_epoch(cluster: Cluster) -> None:
    backend = MemoryBackend({"pool": GIB})
    host = cluster.host("a", backend)
    await host.beat()
    early = cluster.reports[-1]
    await backend.close()
    await host.beat()
    cluster.later(1.0)
    await host.beat()
    assert (await make(host)).created
    late = replace(early, backend_up=False, pools=[])
    assert (await cluster.desk.report(late)).epoch is None
    other = cluster.host("b")
    await other.beat()
    assert await refused(other), "giving back what it had before gives nothing of what it has now"


async def test_the_epoch_grows_with_the_holder_only(cluster: Cluster) -> None:
    report = ServiceReport("h@b", "z", {}, backend_up=True, pools=[], holder=holder_name("a", None, 1.0))
    first = await cluster.desk.report(report)
    assert await cluster.desk.report(report) == first
    cluster.later(10 * LIFE)
    assert await cluster.desk.report(report) == first, "nobody took it meanwhile"
    cluster.later(10 * LIFE)
    other = await cluster.desk.report(replace(report, holder=holder_name("b", None, 1.0)))
    assert first.epoch is not None
    assert other.epoch is not None
    assert other.epoch > first.epoch


async def test_leases_of_processes_that_are_known_to_be_dead(cluster: Cluster) -> None:
    report = ServiceReport("h@b", "z", {}, backend_up=True, pools=[], holder=holder_name("mark/boot/1", None, 1.0))
    successor = replace(report, holder=holder_name("mark/boot/2", None, 1.0))
    await cluster.desk.report(report)
    await cluster.store.write(lambda db: leases.expire(db, ["h@b"], "mark/other/"))
    await cluster.store.write(lambda db: leases.expire(db, ["h@c"], "mark/boot/"))
    assert (await cluster.desk.report(successor)).epoch is None
    await cluster.store.write(lambda db: leases.expire(db, ["h@b"], "mark/boot/"))
    assert (await cluster.desk.report(successor)).epoch is not None
