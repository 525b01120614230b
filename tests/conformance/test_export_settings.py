"""From settings to exports, what a missing package says, and an export over a real backend's volume."""

from __future__ import annotations

import uuid
from pathlib import Path

import pytest

from drivers import export_registry
from drivers.protocols import Files
from drivers.reflink.backend import ReflinkBackend
from drivers.vocabulary import BackendUnavailableError, SourceMissingError, VolumeSpec
from tests.conformance.export_harness import DAEMONS, ExportHarness, NbdUnix, stored


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("floppy", {}, "no export 'floppy'"),
        ("local", {"port": 1}, "'port': unknown option"),
        ("local", {"device": "tape"}, "'device'"),
        ("nbd", {"address": "nowhere"}, "'address'"),
        ("nbd", {"address": "0.0.0.0"}, "advertised_address"),
        ("nbd", {"port_first": 20, "port_last": 10}, "below"),
        ("iscsi", {"iqn_prefix": "iqn.2026-01.localhost"}, "'iqn_prefix'"),
        ("iscsi", {"port_first": 70000}, "'port_first'"),
    ],
)
def test_mistakes_are_named(tmp_path: Path, name: str, options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        export_registry.create(name, options, tmp_path, "disk")


def test_an_address_of_the_network_serves_others(tmp_path: Path) -> None:
    elsewhere = {"host": "elsewhere", "initiator": "iqn.1994-05.com.example:a"}
    for name in ("nbd", "iscsi"):
        options = {"address": "0.0.0.0", "advertised_address": "192.0.2.7"}
        assert export_registry.create(name, options, tmp_path, "disk", "here").serves(elsewhere)
    assert not export_registry.create("iscsi", {}, tmp_path, "disk", "here").serves({"host": "here"})


@pytest.mark.parametrize("way", DAEMONS, ids=lambda harness: harness.name, indirect=True)
async def test_a_missing_package_is_named(way: ExportHarness, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(way.place.directory))
    with pytest.raises(BackendUnavailableError, match=r"is missing; apt-get install (qemu-system-common|tgt)"):
        await way.export().open()


@pytest.mark.parametrize("way", [NbdUnix], ids=["nbd-unix"], indirect=True)
async def test_a_volume_of_the_reflink_driver(way: ExportHarness) -> None:
    backend = ReflinkBackend(way.place.directory / "pool", "pool")
    assert isinstance(backend, Files)
    await backend.open()
    export = way.export()
    await export.open()
    try:
        volume_id = str(uuid.uuid4())
        with pytest.raises(SourceMissingError):
            await backend.volume_path("pool", volume_id)
        await backend.ensure_volume("pool", VolumeSpec(volume_id, 1))
        path = await backend.volume_path("pool", volume_id)
        info = await export.ensure_connection(way.spec(volume_id), path)
        await way.write(info, 4096, b"r" * 4096)
        assert stored(path, 4096, 4096) == b"r" * 4096
        await backend.ensure_size("pool", volume_id, 2)
        await export.resized(volume_id, path)
        assert await way.size(info) == 2 << 30
    finally:
        await backend.close()


@pytest.mark.parametrize(
    "initiator",
    ["iqn.2026-01.io.pumice:a\nTarget 7: iqn.x", "iqn.a,iqn.b", "iqn.a b", "", "node", 7, "iqn." + "a" * 300, "iqn.a;"],
)
def test_what_is_no_name_of_an_initiator_is_not_let_in(tmp_path: Path, initiator: object) -> None:
    export = export_registry.create("iscsi", {}, tmp_path, "disk", "here")
    assert export.serves({"host": "here", "initiator": "iqn.2026-01.io.pumice:node-1"})
    assert not export.serves({"host": "here", "initiator": initiator})
