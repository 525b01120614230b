"""What a backend's exports were is remembered, so that those that the settings drop can be looked after."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from drivers import export_registry
from drivers.exports.place import own_directory
from drivers.protocols import Ends
from tests.conformance.export_harness import HARNESSES, HOST, ExportHarness


@pytest.mark.parametrize("way", HARNESSES, ids=lambda each: each.name, indirect=True)
async def test_what_was_dropped_is_found_with_its_options_serves_on_and_ends(way: ExportHarness) -> None:
    state_dir = way.place.directory / "state"
    options = {key: str(value) if isinstance(value, Path) else value for key, value in way.options.items()}
    export_registry.remember(way.protocol, options, state_dir, "b", address="127.0.0.1")
    before = export_registry.create(way.protocol, options, state_dir, "b", HOST, address="127.0.0.1")
    await before.open()
    volume_id, path = way.place.volume()
    spec = way.spec(volume_id)
    given = await before.ensure_connection(spec, path)
    await before.close()

    assert export_registry.leaving(state_dir, "b", HOST, [way.protocol]) == ([], [])
    (found,), troubles = export_registry.leaving(state_dir, "b", HOST, ["another"])
    assert (found.protocol, troubles) == (before.protocol, [])
    assert [item.id for item in await found.connections()] == [spec.id]
    await found.open()
    assert await found.ensure_connection(spec, path) == given
    await found.ensure_connection_absent(spec.id, volume_id)
    assert await found.connections() == []
    if isinstance(found, Ends):
        await found.end()
        await found.end()
    assert await found.connections() == []


def test_what_cannot_be_made_any_more_is_told(tmp_path: Path) -> None:
    (own_directory(tmp_path, "b", "no-such-export")).mkdir(parents=True)
    own = own_directory(tmp_path, "b", "nbd")
    own.mkdir()
    (own / "options.json").write_text(json.dumps({"options": {"port_first": "many"}, "address": None}))
    own_directory(tmp_path, "b", "local").mkdir()
    found, troubles = export_registry.leaving(tmp_path, "b", HOST, [])
    assert [export.protocol for export in found] == ["local"]
    assert len(troubles) == 2
    assert {name for name in ("nbd", "no-such-export") if any(f"what {name} of" in one for one in troubles)} == {
        "nbd",
        "no-such-export",
    }
