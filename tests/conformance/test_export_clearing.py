"""What the end of an instance gives back of its exports, and what it leaves to others."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from drivers import export_registry
from drivers.exports import clearing, loop_device
from tests.conformance.export_harness import ExportHarness, LocalLoop


@pytest.mark.parametrize("elsewhere", [False, True], ids=["default", "directory-set"])
@pytest.mark.parametrize("way", [LocalLoop], ids=["local-loop"], indirect=True)
async def test_what_one_state_directory_has_is_given_back(way: ExportHarness, *, elsewhere: bool) -> None:
    here, other = way.place.directory / "here", way.place.directory / "other"
    found = {}
    for state_dir in (here, other):
        options = {"directory": way.place.directory / f"set-{state_dir.name}"} if elsewhere else {}
        export = export_registry.create("local", options, state_dir, "b", "this-node")
        await export.open()
        volume_id, path = way.place.volume()  # outside of both: a pool may be anywhere
        found[state_dir] = (await export.ensure_connection(way.spec(volume_id), path)).data["device_path"]
    left = here / "exports" / "b" / "nbd" / "nbd.sock"
    left.parent.mkdir(parents=True)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(left))
    assert [str(device.path) for device in clearing.devices(here)] == [found[here]]

    assert clearing.clear(here) == []
    assert list(clearing.devices(here)) == []
    assert (left.exists(), left.parent.is_dir()) == (False, True)
    assert [str(device.path) for device in clearing.devices(other)] == [found[other]]
    assert clearing.clear(here) == [], "again does no harm"


@pytest.mark.parametrize("way", [LocalLoop], ids=["local-loop"], indirect=True)
async def test_a_device_that_is_open_is_named_and_frees_itself(
    way: ExportHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clearing, "_CLOSING_SECONDS", 0.1)
    state_dir = way.place.directory / "here"
    export = export_registry.create("local", {}, state_dir, "b", "this-node")
    await export.open()
    volume_id, path = way.place.volume()
    device = Path((await export.ensure_connection(way.spec(volume_id), path)).data["device_path"])
    with device.open("rb"):
        (trouble,) = clearing.clear(state_dir)
        assert str(device) in trouble
    assert loop_device.look(device) is None
