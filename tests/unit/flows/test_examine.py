"""What the user is told after an administrator has written a status."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import delete, select

from cluster.caller import Caller
from cluster.journal.records import Operation, OperationState
from cluster.messages.records import Message
from cluster.snapshots import intents as snapshots
from cluster.volumes import deletion, edits
from cluster.volumes.records import Volume
from drivers.vocabulary import BackendUnavailableError, SnapshotSpec, UncertainError
from tests.unit.flows.conftest import SERVICE, Bench, Uuid

ADMIN = Caller(user_id="a", project_id="admins", request_id="req-7", is_admin=True)
POOL = "h1@memory#memory"


async def reset(bench: Bench, volume_id: str, **states: str) -> None:
    """Write it down as the API does."""
    await bench.cluster.store.write(
        lambda db: edits.reset_status(db, bench.cluster.outside, ADMIN, volume_id, **states)
    )


async def told(bench: Bench) -> Any:
    """The only message, once everything has come to rest."""
    await bench.cluster.settle()
    [message] = await bench.rows(Message)
    assert message.request_id == "req-7"
    return message


async def made(bench: Bench, volume_id: str) -> None:
    """A volume that is there."""
    await bench.create(volume_id)
    await bench.cluster.settle()


async def test_what_is_there_is_told_to_the_project_of_the_volume(bench: Bench, uuid: Uuid) -> None:
    await made(bench, uuid(1))
    await reset(bench, uuid(1), status="available")
    message = await told(bench)
    assert (message.project_id, message.resource_type, message.resource_uuid) == ("p", "VOLUME", uuid(1))
    assert (message.event_id, message.message_level) == ("VOLUME_VOLUME_902_900", "INFO")
    assert f"set the status to available of volume {uuid(1)}" in message.user_message
    assert f"Its data is in {POOL}, 1 GiB, as its record says." in message.user_message
    assert (await bench.volume(uuid(1))).status == "available"


async def test_what_is_not_there_is_said_and_the_status_is_left_alone(bench: Bench, uuid: Uuid) -> None:
    await made(bench, uuid(1))
    await bench.backend.ensure_volume_absent("memory", uuid(1))
    await reset(bench, uuid(1), status="available")
    message = await told(bench)
    assert (message.event_id, message.message_level) == ("VOLUME_VOLUME_902_901", "ERROR")
    assert (
        f"{POOL} holds no such volume: its data cannot be read. Set it to error or delete it." in message.user_message
    )
    assert (await bench.volume(uuid(1))).status == "available"


@pytest.mark.parametrize(
    ("size_gib", "words", "level"), [(4, "extend it to mend the record", "WARNING"), (1, "1 GiB only", "ERROR")]
)
async def test_another_size_is_said(bench: Bench, uuid: Uuid, size_gib: int, words: str, level: str) -> None:
    await made(bench, uuid(1))
    await bench.backend.ensure_size("memory", uuid(1), size_gib)
    await bench.cluster.store.write(lambda db: db.execute(Volume.__table__.update().values(size_gib=2)) and None)  # type: ignore[attr-defined]
    await reset(bench, uuid(1), status="available")
    message = await told(bench)
    assert (message.event_id, message.message_level) == ("VOLUME_VOLUME_902_901", level)
    assert words in message.user_message


async def test_a_volume_that_is_nowhere(bench: Bench, uuid: Uuid) -> None:
    await bench.create_row(uuid(1), host=None, status="error")
    await reset(bench, uuid(1), status="available")
    message = await told(bench)
    assert (message.message_level, "holds no data; delete it" in message.user_message) == ("ERROR", True)


@pytest.mark.parametrize(
    ("before", "states", "words"),
    [
        ("attached", {"status": "available"}, "cannot be deleted before that is set to detached"),
        ("attached", {"status": "in-use", "attach_status": "detached"}, "one of them is wrong"),
        ("detached", {"status": "extending"}, "Nothing works on it: extending lasts until the next comparison"),
    ],
)
async def test_states_that_contradict_each_other(
    bench: Bench, uuid: Uuid, before: str, states: dict[str, str], words: str
) -> None:
    await made(bench, uuid(1))
    await bench.cluster.store.write(
        lambda db: db.execute(Volume.__table__.update().values(attach_status=before)) and None
    )  # type: ignore[attr-defined]
    await reset(bench, uuid(1), **states)
    message = await told(bench)
    assert (message.message_level, words in message.user_message) == ("WARNING", True), message.user_message
    assert (await bench.volume(uuid(1))).status == states["status"]


async def test_work_under_way_goes_on_and_that_is_said(bench: Bench, uuid: Uuid, monkeypatch: Any) -> None:
    await made(bench, uuid(1))

    async def away(*_args: object) -> None:
        raise UncertainError("the node went away")

    with monkeypatch.context() as patch:
        patch.setattr(bench.backend, "ensure_size", away)
        await bench.operate("volume.extend", uuid(1), size_gib=2, from_gib=1)
        await bench.cluster.settle()
        await reset(bench, uuid(1), status="available")
        message = await told(bench)
    assert (message.event_id, message.message_level) == ("VOLUME_VOLUME_902_902", "WARNING")
    assert "volume.extend goes on regardless" in message.user_message
    await bench.make_due()
    await bench.cluster.settle()
    assert (await bench.volume(uuid(1))).size_gib == 2


async def test_it_stands_in_nobodys_way(bench: Bench, uuid: Uuid) -> None:
    await made(bench, uuid(1))
    for status in ("error", "available", "error"):
        await reset(bench, uuid(1), status=status)
    await bench.cluster.store.write(lambda db: deletion.delete_volume(db, bench.cluster.outside, ADMIN, uuid(1)))
    states = await bench.rows(Operation)
    assert [row.kind for row in states if row.state == OperationState.LIVE] == ["volume.examine"] * 3 + [
        "volume.delete"
    ]
    await bench.cluster.settle()
    assert await bench.volume(uuid(1)) is None
    assert "live" not in (await bench.states()).values()


async def test_a_volume_that_is_gone_needs_no_message(bench: Bench, uuid: Uuid) -> None:
    await made(bench, uuid(1))
    await reset(bench, uuid(1), status="available")
    await bench.cluster.store.write(lambda db: db.execute(delete(Volume)) and None)
    await bench.cluster.settle()
    assert await bench.rows(Message) == []
    assert "live" not in (await bench.states()).values()


async def test_a_backend_that_does_not_answer_is_asked_again_and_then_that_is_said(
    bench: Bench, uuid: Uuid, monkeypatch: Any
) -> None:
    await made(bench, uuid(1))

    async def away(*_args: object) -> None:
        raise BackendUnavailableError("/srv/pool is not mounted")

    real = bench.backend.inventory
    monkeypatch.setattr(bench.backend, "inventory", away)
    for number in (1, 2):
        await reset(bench, uuid(1), status="available")
        await bench.cluster.settle()
        assert len(await bench.rows(Message)) == number - 1
        for _ in range(9 if number == 1 else 3):
            await bench.make_due()
            await bench.cluster.settle()
        if number == 1:
            message = await told(bench)
            assert (message.event_id, message.message_level) == ("VOLUME_VOLUME_902_903", "WARNING")
            assert "is not available. Ask an operator to look" in message.user_message
            assert "/srv" not in message.user_message
    monkeypatch.setattr(bench.backend, "inventory", real)
    await bench.make_due()
    await bench.cluster.settle()
    assert "as its record says" in (await bench.messages())[1]


async def test_a_change_between_the_look_and_the_message_is_looked_at_again(
    bench: Bench, uuid: Uuid, monkeypatch: Any
) -> None:
    await made(bench, uuid(1))
    real, looks = bench.backend.inventory, 0

    async def meanwhile(*_args: object) -> Any:
        nonlocal looks
        looks += 1
        found = await real()
        if looks == 1:
            await bench.backend.ensure_size("memory", uuid(1), 2)
            values = {"size_gib": 2, "updated_at": bench.cluster.outside.now()}
            await bench.cluster.store.write(lambda db: db.execute(Volume.__table__.update().values(**values)) and None)  # type: ignore[attr-defined]
        return found

    monkeypatch.setattr(bench.backend, "inventory", meanwhile)
    await reset(bench, uuid(1), status="available")
    await bench.cluster.settle()
    await bench.make_due()
    message = await told(bench)
    assert "2 GiB, as its record says" in message.user_message


async def test_a_snapshot_and_the_cascade_that_takes_it(bench: Bench, uuid: Uuid, monkeypatch: Any) -> None:
    await made(bench, uuid(1))
    await bench.snapshot(uuid(2), uuid(1))
    await bench.cluster.settle()

    async def change(status: str) -> None:
        await bench.cluster.store.write(
            lambda db: snapshots.reset_status(db, bench.cluster.outside, ADMIN, uuid(2), status)
        )
        await bench.cluster.settle()

    await change("error")
    await bench.backend.ensure_snapshot_absent("memory", SnapshotSpec(uuid(2), uuid(1), 1))
    await change("available")

    async def away(*_args: object) -> None:
        raise UncertainError("the node went away")

    with monkeypatch.context() as patch:
        patch.setattr(bench.backend, "ensure_snapshot_absent", away)
        await bench.operate("volume.delete", uuid(1), snapshots=[uuid(2)])
        await bench.cluster.settle()
        await change("error")
    rows = await bench.cluster.store.read(
        lambda db: list(db.execute(select(Message.__table__).order_by("created_at")).all())  # type: ignore[attr-defined]
    )
    assert [(row.event_id, row.message_level) for row in rows] == [
        ("VOLUME_VOLUME_SNAPSHOT_902_900", "INFO"),
        ("VOLUME_VOLUME_SNAPSHOT_902_901", "ERROR"),
        ("VOLUME_VOLUME_SNAPSHOT_902_902", "WARNING"),
    ]
    assert "Set it to available to use it" in rows[0].user_message
    assert SERVICE in rows[1].user_message
