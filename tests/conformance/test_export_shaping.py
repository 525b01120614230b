"""The limit that `iscsi` has, as measured: what its consumers read, here and beyond a cable, is N within ten percent.

Tgtd, its consumers and the rules live in namespaces of the test's own; the volume host's part is the real one.
"""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from actors import processes
from actors.exporting import Exporting
from cluster.storage_network.shaping import Shaping
from cluster.storage_network.ways import Ways
from drivers.export_registry import create
from drivers.memory import MemoryBackend, MemoryStore
from drivers.vocabulary import GIB, UNLIMITED, ConnectionInfo, ConnectionSpec, Limits, UnsupportedError
from tests.conformance.export_harness import HOST, Iscsi, Place
from tests.conformance.storage_network.namespaces import Space, cable, space

MIB = 1 << 20
LIMIT = Limits(read_bytes=4 * MIB)


class Files(MemoryBackend):
    """Whose volumes are the files of a place."""

    def __init__(self, place: Place) -> None:
        super().__init__(store=MemoryStore({"pool": GIB}))
        self._place = place

    async def volume_path(self, pool: str, volume_id: str) -> Path:
        return self._place.directory / f"volume-{volume_id}"


class Bench:
    """A node that exports by iSCSI at every address, another beyond a cable, a volume with bytes in it."""

    def __init__(self, place: Place, node: Space, far: Space) -> None:
        self.place, self.node, self.far = place, node, far
        self.way = Iscsi(place)
        self.volume_id, path = place.volume(64 * MIB)
        path.write_bytes(os.urandom(16 * MIB) + bytes(48 * MIB))

    def exporting(self) -> Exporting:
        """Another life of the volume host."""
        options = {**Iscsi.options, "address": "0.0.0.0", "advertised_address": "10.99.1.1"}
        ways = Ways(f"{HOST}@b", self.place.directory / "network", [Shaping(7)])
        return Exporting(
            f"{HOST}@b", Files(self.place), [create("iscsi", options, self.place.directory, "b", HOST)], ways
        )

    def run(self, work: Callable[[Exporting], Awaitable[None]]) -> None:
        """On the node, with an open host."""

        async def all_of_it() -> None:
            exporting = self.exporting()
            await exporting.open()
            await work(exporting)

        self.node.do(lambda: asyncio.run(all_of_it()))

    def spec(self, limits: Limits, *, is_here: bool = True) -> ConnectionSpec:
        spec = self.way.spec(self.volume_id, limits=limits)
        address = {} if is_here else {"host": "elsewhere", "ip": "10.99.1.2"}
        return replace(spec, connector={**spec.connector, **address})

    def rate(self, info: ConnectionInfo, command: str, where: Space | None = None) -> float:
        """MiB a second of one order of qemu-io, its start not counted."""
        target = self.way.target(info)
        line = ["ip", "netns", "exec", (where or self.node).name, "qemu-io", "-t", "none", *target.arguments()]
        done = subprocess.run([*line, "-c", command, target.image], capture_output=True, text=True, timeout=60)
        found = re.search(r"\(([\d.]+) (GiB|MiB|KiB)/sec", done.stdout)
        assert found, done.stdout + done.stderr
        return float(found[1]) * {"GiB": 1024.0, "MiB": 1.0, "KiB": 1 / 1024}[found[2]]

    def assert_rate(self, info: ConnectionInfo, wanted: float, where: Space | None = None) -> None:
        """Within the promised ten percent, over some three seconds; what is too slow on a busy machine is measured
        again, twice at most."""
        size = f"{int(wanted * 3)}M"
        for _ in range(3):
            rate = self.rate(info, f"read 0 {size}", where)
            if rate >= wanted * 0.9:
                break
        assert wanted * 0.9 <= rate <= wanted * 1.1

    def qdiscs(self) -> str:
        return subprocess.run(["tc", "-n", self.node.name, "qdisc"], check=True, capture_output=True, text=True).stdout


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    place = Place()
    monkeypatch.setenv(processes.MARK, place.mark)
    try:
        with space() as node, space() as far:
            cable(node, far, 1)
            yield Bench(place, node, far)
    finally:
        place.leave()


def test_reads_are_limited_and_nothing_else(bench: Bench) -> None:
    async def work(exporting: Exporting) -> None:
        here, there, free = bench.spec(LIMIT), bench.spec(LIMIT, is_here=False), bench.spec(UNLIMITED, is_here=False)
        infos = [await exporting.ensure_connection("pool", spec) for spec in (here, there, free)]
        portals = [info.data["target_portal"] for info in infos]
        assert len(set(portals)) == 3
        assert infos[0].data["target_portals"] == portals[:1]
        await asyncio.to_thread(bench.assert_rate, infos[0], 4)
        await asyncio.to_thread(bench.assert_rate, infos[1], 4, bench.far)
        assert await asyncio.to_thread(bench.rate, infos[1], "write -P 1 32M 16M", bench.far) > 12, "writes are free"
        assert await asyncio.to_thread(bench.rate, infos[2], "read 0 16M", bench.far) > 12, "so is a neighbour"

        faster = replace(there, limits=Limits(read_bytes=5 * MIB))
        assert await exporting.ensure_connection("pool", faster) == infos[1]
        await asyncio.to_thread(bench.assert_rate, infos[1], 5, bench.far)
        assert await exporting.ensure_connection("pool", replace(there, limits=UNLIMITED)) == infos[1]
        assert await asyncio.to_thread(bench.rate, infos[1], "read 0 16M", bench.far) > 12

        for spec in (here, there, free):
            await exporting.ensure_connection_absent(spec.id, spec.volume_id)
        assert "504d" not in bench.qdiscs()

    bench.run(work)


def test_limits_outlive_the_volume_host_and_tgtd(bench: Bench) -> None:
    spec = bench.spec(LIMIT, is_here=False)
    infos: list[ConnectionInfo] = []

    async def first(exporting: Exporting) -> None:
        infos.append(await exporting.ensure_connection("pool", spec))

    async def second(exporting: Exporting) -> None:
        assert [item.id for item in await exporting.connections()] == [spec.id]
        assert "504d" in bench.qdiscs()
        bench.place.kill_daemons()
        assert await exporting.connections() == []
        assert "504d" not in bench.qdiscs(), "nobody is served"
        assert await exporting.ensure_connection("pool", spec) == infos[0], "at the port of before"
        await asyncio.to_thread(bench.assert_rate, infos[0], 4, bench.far)
        await exporting.ensure_connection_absent(spec.id, spec.volume_id)
        assert await exporting.connections() == []

    bench.run(first)
    subprocess.run(["tc", "-n", bench.node.name, "qdisc", "del", "dev", "c1", "root"], check=True)
    bench.run(second)


@pytest.mark.parametrize(
    ("limits", "because"),
    [
        (Limits(read_iops=9), "nothing but read_bytes_sec"),
        (Limits(write_bytes=MIB), "nothing but read_bytes_sec"),
        (Limits(total_bytes=MIB), "nothing but read_bytes_sec"),
        (Limits(read_bytes=400), "no read_bytes_sec below 2048"),
    ],
)
def test_what_cannot_be_limited_is_refused(bench: Bench, limits: Limits, because: str) -> None:
    async def work(exporting: Exporting) -> None:
        with pytest.raises(UnsupportedError, match=rf"_sec=.*{because}"):
            await exporting.ensure_connection("pool", bench.spec(limits))
        assert await exporting.connections() == []

    bench.run(work)


def test_who_was_let_in_without_limits_cannot_be_given_any(bench: Bench) -> None:
    """His port is that of others."""

    async def work(exporting: Exporting) -> None:
        spec = bench.spec(UNLIMITED)
        info = await exporting.ensure_connection("pool", spec)
        with pytest.raises(UnsupportedError, match="detach the volume and attach it again"):
            await exporting.ensure_connection("pool", replace(spec, limits=LIMIT))
        assert await exporting.ensure_connection("pool", spec) == info

    bench.run(work)


def test_where_the_way_cannot_be_slowed_down_nobody_is_let_in(bench: Bench) -> None:
    subprocess.run(["tc", "-n", bench.node.name, "qdisc", "add", "dev", "c1", "root", "pfifo"], check=True)

    async def work(exporting: Exporting) -> None:
        spec: Any = bench.spec(LIMIT, is_here=False)
        with pytest.raises(UnsupportedError, match="c1 has a root qdisc of its own"):
            await exporting.ensure_connection("pool", spec)
        assert await exporting.connections() == []
        assert list((bench.place.directory / "exports" / "b" / "iscsi" / "portals").iterdir()) == []

    bench.run(work)
    assert "pfifo" in bench.qdiscs()
