"""The API and the cluster together, in one process with the in-memory driver: what one writes down the other does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from actors.in_process import InProcessCluster
from cluster.settings import BackendSettings, Settings
from cluster.volume_types.intents import ensure_default_type
from drivers.memory import MemoryBackend
from drivers.vocabulary import GIB
from tests.unit.volumes.bench import Bench


async def _one(bench: Bench, kind: str, resource_id: str) -> Any:
    return (await bench.get(f"/{kind}s/{resource_id}", at=71, by="admin"))[kind]


async def test_create_snapshot_copy_extend_delete(tmp_path: Path) -> None:
    settings = Settings(state_dir=tmp_path, host_name="h1", backends={"memory": BackendSettings(driver="memory")})
    backend = MemoryBackend({"memory": 100 * GIB})
    async with InProcessCluster(settings, {"h1@memory": backend}) as cluster:
        bench = Bench(cluster.store, settings, cluster.outside)
        await ensure_default_type(cluster.store, settings, cluster.outside)
        made = await bench.call("POST", "/volumes", {"volume": {"size": 1, "name": "v"}})
        volume = made.json()["volume"]["id"]
        await cluster.settle()
        shown = await _one(bench, "volume", volume)
        assert (shown["status"], shown["os-vol-host-attr:host"]) == ("available", "h1@memory#memory")

        made = await bench.call("POST", "/snapshots", {"snapshot": {"volume_id": volume}})
        snapshot = made.json()["snapshot"]["id"]
        await cluster.settle()
        assert (await _one(bench, "snapshot", snapshot))["status"] == "available"

        copies = []
        for source in ({"snapshot_id": snapshot, "size": 2}, {"source_volid": volume}):
            made = await bench.call("POST", "/volumes", {"volume": source})
            copies.append(made.json()["volume"]["id"])
        await cluster.settle()
        assert [(await _one(bench, "volume", copy))["size"] for copy in copies] == [2, 1]
        assert {(await _one(bench, "volume", copy))["status"] for copy in copies} == {"available"}

        assert (await bench.act(volume, "os-extend", {"new_size": 4})).status_code == 202
        await cluster.settle()
        shown = await _one(bench, "volume", volume)
        assert (shown["status"], shown["size"]) == ("available", 4)

        for gone in (*copies, f"{volume}?cascade=true"):
            assert (await bench.call("DELETE", f"/volumes/{gone}")).status_code == 202
        await cluster.settle()
        assert await bench.get("/volumes", by="admin") == {"volumes": []}
        assert await bench.get("/snapshots") == {"snapshots": []}
        assert not list(await backend.inventory())
