"""A state that an administrator wrote hides no work under way."""

from __future__ import annotations

from tests.unit.volumes.bench import Bench


async def test_what_is_being_deleted_is_neither_copied_nor_snapshotted_whatever_its_state_says(bench: Bench) -> None:
    volume = await bench.volume()
    assert (await bench.call("DELETE", f"/volumes/{volume}")).status_code == 202
    reset = await bench.act(volume, "os-reset_status", {"status": "available"}, by="admin")
    assert reset.status_code == 202
    snapshot = await bench.call("POST", "/snapshots", {"snapshot": {"volume_id": volume}})
    clone = await bench.call("POST", "/volumes", {"volume": {"source_volid": volume, "size": 1}})
    for answer in (snapshot, clone):
        assert answer.status_code == 400
        assert "still being worked on" in answer.json()["badRequest"]["message"]
