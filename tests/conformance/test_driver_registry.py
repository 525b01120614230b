"""From settings to backends, third-party drivers included."""

from __future__ import annotations

import importlib.metadata
import os
from pathlib import Path

import pytest
from pydantic import BaseModel

from drivers import entry_options, registry
from drivers.memory import MemoryBackend
from drivers.pool_image import ensure_unmounted
from drivers.protocols import Backend


async def test_memory(tmp_path: Path) -> None:
    backend = registry.create("memory", {"capacity_gib": 7, "reserved_percentage": 5}, tmp_path, "quick")
    await backend.open()
    [report] = await backend.pools()
    assert (report.name, report.total_gib, report.reserved_percentage) == ("quick", 7.0, 5)


async def test_reflink_in_a_given_directory(tmp_path: Path) -> None:
    options = {"directory": str(tmp_path / "given"), "pool_name": "gold", "max_over_subscription_ratio": 3}
    backend = registry.create("reflink", options, tmp_path / "state", "disk")
    assert not (tmp_path / "given").exists(), "making a backend touches no storage"
    await backend.open()
    [report] = await backend.pools()
    assert (report.name, report.max_over_subscription_ratio) == ("gold", 3.0)
    assert (tmp_path / "given" / ".pumice-pool.json").exists()
    assert (tmp_path / "state" / "pools" / "disk.identity.json").exists()
    await backend.close()


async def test_reflink_makes_its_own_file_system(tmp_path: Path) -> None:
    assert os.geteuid() == 0, "this test mounts a file system: run it as root"
    backend = registry.create("reflink", {"image_size_gib": 1}, tmp_path, "disk")
    try:
        await backend.open()
        assert backend.capabilities.shares_extents
        [report] = await backend.pools()
        assert 0.5 < report.total_gib <= 1
        await backend.close()
    finally:
        ensure_unmounted(tmp_path / "pools" / "disk")


@pytest.mark.parametrize(
    ("driver", "options", "message"),
    [
        ("floppy", {}, r"no driver 'floppy'; there are memory, reflink"),
        ("memory", {"size": 1}, r"'size': unknown option .*capacity_gib"),
        ("memory", {"capacity_gib": 0}, r"'capacity_gib'.*greater"),
        ("reflink", {"reserved_percentage": 101}, r"'reserved_percentage'"),
        ("reflink", {"own_file_system": "maybe"}, r"'own_file_system'.*'auto'"),
    ],
)
def test_mistakes_are_named(tmp_path: Path, driver: str, options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        registry.create(driver, options, tmp_path, "disk")


@pytest.mark.parametrize("name", ["", "..", "a/b"])
def test_backend_names_that_are_paths(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match="cannot name a backend"):
        registry.create("memory", {}, tmp_path, name)


class TapeOptions(BaseModel):
    """Options of a third party's driver."""

    reels: int = 1


def _tape(options: TapeOptions, _state_dir: Path, backend_name: str) -> Backend:
    return MemoryBackend({backend_name: options.reels << 30})


TAPE = registry.Driver(TapeOptions, _tape)
NOT_A_DRIVER = object()


def test_a_third_partys_driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    points = importlib.metadata.EntryPoints(
        importlib.metadata.EntryPoint(name, f"{__name__}:{attribute}", registry.ENTRY_POINT_GROUP)
        for name, attribute in (("tape", "TAPE"), ("broken", "NOT_A_DRIVER"))
    )
    monkeypatch.setattr(entry_options, "entry_points", points.select)
    assert registry.names() == ["broken", "memory", "reflink", "tape"]
    assert isinstance(registry.create("tape", {"reels": 2}, tmp_path, "attic"), MemoryBackend)
    with pytest.raises(TypeError, match="NOT_A_DRIVER"):
        registry.create("broken", {}, tmp_path, "attic")
