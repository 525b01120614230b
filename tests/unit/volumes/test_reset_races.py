"""A state that an administrator wrote hides no work under way."""

from __future__ import annotations

from sqlalchemy import select
from sqlmodel import col

from cluster.journal.records import Operation
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


async def test_a_reset_asks_for_a_look_at_the_storage_which_stands_in_nobodys_way(bench: Bench) -> None:
    volume = await bench.volume(status="error_deleting")
    snapshot = await bench.snapshot(await bench.volume(), status="error_deleting")
    for path in (f"/volumes/{volume}", f"/snapshots/{snapshot}"):
        rings = len(bench.rings)
        reset = await bench.call("POST", f"{path}/action", {"os-reset_status": {"status": "available"}}, by="admin")
        assert (reset.status_code, len(bench.rings)) == (202, rings + 1)
        assert (await bench.call("DELETE", path)).status_code == 202
    kinds = await bench.store.read(
        lambda db: list(db.scalars(select(col(Operation.kind)).order_by(col(Operation.kind))))
    )
    assert kinds == ["snapshot.delete", "snapshot.examine", "volume.delete", "volume.examine"]


async def test_a_reset_that_is_refused_asks_for_nothing(bench: Bench) -> None:
    volume = await bench.volume()
    assert (await bench.act(volume, "os-reset_status", {"status": "deleting"}, by="admin")).status_code == 400
    assert await bench.store.read(lambda db: list(db.scalars(select(col(Operation.kind))))) == []
