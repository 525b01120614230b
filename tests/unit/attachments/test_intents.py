"""The attachments API's writes: guards, what the volume says, what the export lets in."""

from __future__ import annotations

import asyncio

import pytest

from cluster.attachments import queries
from cluster.attachments.intents import complete, connect, disconnect, reserve
from cluster.attachments.records import Attachment, VolumeConnection
from cluster.errors import ConflictError, ForbiddenError, InvalidInputError, InvalidStateError, NotFoundError
from cluster.volumes.deletion import delete_volume
from cluster.volumes.records import Volume, VolumeStatus
from drivers.vocabulary import AccessMode, BackendUnavailableError, InUseError
from tests.unit.attachments.conftest import ADMIN, CALLER, CONNECTOR, OTHER, STRANGER, Bench

FREE = {VolumeStatus.AVAILABLE}
SHARED = {VolumeStatus.AVAILABLE, VolumeStatus.IN_USE}


async def attached(bench: Bench, volume_id: str, connector: dict[str, str] | None = None) -> str:
    """An attachment the whole way."""
    made = await bench.run(reserve, volume_id, connector=connector or CONNECTOR)
    await bench.settle()
    await bench.run(complete, made.attachment["id"])
    return str(made.attachment["id"])


@pytest.mark.parametrize("multiattach", [False, True])
@pytest.mark.parametrize("status", list(VolumeStatus))
async def test_reserve_takes_only_a_free_volume(bench: Bench, status: VolumeStatus, multiattach: bool) -> None:
    volume_id = await bench.volume(status=status, multiattach=multiattach)
    if status in (SHARED if multiattach else FREE):
        made = await bench.run(reserve, volume_id, instance_id="i")
        assert made.work is None
        assert await bench.states(volume_id) == ("reserved", "reserved")
        assert await bench.attachments() == {made.attachment["id"]: "reserved"}
        return
    with pytest.raises(InvalidStateError) as refused:
        await bench.run(reserve, volume_id, instance_id="i")
    assert status in str(refused.value)
    assert await bench.attachments() == {}
    assert (await bench.states(volume_id))[0] == status


async def test_the_whole_way_of_one_attachment(bench: Bench) -> None:
    volume_id = await bench.volume()
    made = await bench.run(reserve, volume_id, instance_id="i")
    attachment_id = made.attachment["id"]
    assert (made.attachment["attach_mode"], made.attachment["connection_info"]) == (None, None)
    work = await bench.run(connect, attachment_id, CONNECTOR | {"mountpoint": "/dev/vdb"})
    assert len(work.operations) == 1
    assert not work.again
    assert await bench.states(volume_id) == ("attaching", "attaching")
    await bench.settle()
    row = await bench.row(Attachment, attachment_id)
    assert (row.attach_status, row.attach_mode, row.attached_host, row.mountpoint) == (
        *("attaching", "rw", "node-1"),
        "/dev/vdb",
    )
    info = row.connection_info
    assert (info["driver_volume_type"], info["attachment_id"], info["access_mode"]) == ("memory", attachment_id, "rw")
    assert info["device_path"] == f"/memory/memory/{volume_id}"
    assert bench.served == {attachment_id}
    await bench.run(complete, attachment_id)
    assert await bench.states(volume_id) == ("in-use", "attached")
    await bench.run(complete, attachment_id)
    await bench.run(disconnect, attachment_id)
    assert await bench.attachments() == {attachment_id: "attached"}
    await bench.settle()
    assert await bench.states(volume_id) == ("available", "detached")
    assert (await bench.attachments(), await bench.connections(), bench.served) == ({}, set(), set())


async def test_reserved_without_a_connector_ends_without_an_export(bench: Bench) -> None:
    volume_id = await bench.volume()
    made = await bench.run(reserve, volume_id)
    bench.export.broken["ensure_connection_absent"] = BackendUnavailableError("away")
    assert await bench.run(disconnect, made.attachment["id"]) is None
    assert await bench.states(volume_id) == ("available", "detached")


async def test_of_two_reserves_at_once_one_is_refused_in_cinders_words(bench: Bench) -> None:
    volume_id = await bench.volume()
    answers = await asyncio.gather(
        *(bench.run(reserve, volume_id, instance_id=str(n)) for n in range(2)), return_exceptions=True
    )
    [refused] = [each for each in answers if isinstance(each, Exception)]
    assert isinstance(refused, InvalidStateError)
    assert str(refused) == (
        f"Invalid volume: Volume {volume_id} status must be available to reserve, but the current status is reserved."
    )
    assert len(await bench.attachments()) == 1


async def test_an_instance_that_moves_has_the_volume_twice(bench: Bench) -> None:
    volume_id = await bench.volume()
    made = await bench.run(reserve, volume_id, instance_id="i", connector=CONNECTOR)
    await bench.settle()
    await bench.run(complete, made.attachment["id"])
    with pytest.raises(InvalidStateError):
        await bench.run(reserve, volume_id, instance_id="j", connector=OTHER)
    there = await bench.run(reserve, volume_id, instance_id="i", connector=OTHER)
    await bench.settle()
    assert bench.served == {made.attachment["id"], there.attachment["id"]}
    await bench.run(complete, there.attachment["id"])
    await bench.run(disconnect, made.attachment["id"])
    await bench.settle()
    assert bench.served == {there.attachment["id"]}
    assert await bench.states(volume_id) == ("in-use", "attached")


async def test_a_second_host_is_refused_while_another_attachment_is_connected(bench: Bench) -> None:
    volume_id = await bench.volume()
    made = await bench.run(reserve, volume_id, instance_id="i", connector=CONNECTOR)
    await bench.settle()
    await bench.run(complete, made.attachment["id"])
    there = await bench.run(reserve, volume_id, instance_id="i")
    await bench.run(connect, made.attachment["id"], CONNECTOR | {"multipath": True})  # on its way to another answer
    with pytest.raises(ConflictError, match="duplicate connectors detected on volume"):
        await bench.run(connect, there.attachment["id"], OTHER)
    await bench.settle()
    await bench.run(complete, made.attachment["id"])
    assert await bench.run(disconnect, there.attachment["id"]) is None
    assert await bench.states(volume_id) == ("in-use", "attached")


async def test_several_attachments_of_a_multiattach_volume(bench: Bench) -> None:
    volume_id = await bench.volume(multiattach=True)
    first = await attached(bench, volume_id)
    second = await bench.run(reserve, volume_id, instance_id="j")
    assert await bench.states(volume_id) == ("reserved", "attached")
    with pytest.raises(InvalidStateError):
        await bench.run(reserve, volume_id, instance_id="k")
    await bench.run(connect, second.attachment["id"], OTHER)
    assert await bench.states(volume_id) == ("attaching", "attached")
    await bench.settle()
    await bench.run(complete, second.attachment["id"])
    assert await bench.states(volume_id) == ("in-use", "attached")
    assert bench.served == {first, second.attachment["id"]}
    await bench.run(disconnect, first)
    await bench.settle()
    assert await bench.states(volume_id) == ("in-use", "attached")
    await bench.run(disconnect, second.attachment["id"])
    await bench.settle()
    assert await bench.states(volume_id) == ("available", "detached")


async def test_the_second_attachment_of_a_bootable_volume_needs_its_policy(bench: Bench) -> None:
    volume_id = await bench.volume(multiattach=True, bootable=True)
    await attached(bench, volume_id)
    with pytest.raises(ForbiddenError):
        await bench.run(reserve, volume_id, bootable_permitted=False)
    await bench.run(reserve, volume_id)


@pytest.mark.parametrize(
    ("readonly", "mode", "asked", "given"),
    [
        ("False", None, None, "rw"),
        ("False", None, "ro", "ro"),
        ("False", "ro", "rw", "ro"),
        ("True", None, None, "ro"),
        ("True", "rw", "rw", "ro"),
    ],
)
async def test_who_decides_the_mode(
    bench: Bench, readonly: str, mode: str | None, asked: str | None, given: str
) -> None:
    volume_id = await bench.volume(admin_metadata={"readonly": readonly})
    connector = CONNECTOR | ({"mode": asked} if asked else {})
    made = await bench.run(reserve, volume_id, connector=connector, mode=mode)
    await bench.settle()
    row = await bench.row(Attachment, made.attachment["id"])
    assert (row.attach_mode, row.connection_info["access_mode"]) == (given, given)
    assert bench.export.store.served[row.id].mode is AccessMode(given)


async def test_a_connectors_mode_that_is_none(bench: Bench) -> None:
    volume_id = await bench.volume()
    with pytest.raises(InvalidInputError):
        await bench.run(reserve, volume_id, connector=CONNECTOR | {"mode": "wo"})
    assert await bench.states(volume_id) == ("available", "detached")
    assert await bench.attachments() == {}


async def test_a_repeat_finds_the_operation_under_way(bench: Bench) -> None:
    volume_id = await bench.volume()
    made = await bench.run(reserve, volume_id)
    attachment_id = made.attachment["id"]
    first = await bench.run(connect, attachment_id, CONNECTOR)
    assert await bench.run(connect, attachment_id, CONNECTOR) == first
    assert (await bench.run(connect, attachment_id, OTHER)).again
    ended = await bench.run(disconnect, attachment_id)
    assert (ended.operations, ended.again) == (first.operations, True)
    await bench.settle()
    assert bench.export.store.served[attachment_id].connector["host"] == "node-1"
    ending = await bench.run(disconnect, attachment_id)
    assert await bench.run(disconnect, attachment_id) == ending
    assert not ending.again
    with pytest.raises(InvalidStateError):
        await bench.run(complete, attachment_id)
    await bench.settle()
    with pytest.raises(NotFoundError, match=f"filter: attachment_id = {attachment_id}"):
        await bench.run(disconnect, attachment_id)


async def test_the_same_connector_again_gives_the_same_answer(bench: Bench) -> None:
    volume_id = await bench.volume()
    attachment_id = await attached(bench, volume_id)
    before = await bench.row(Attachment, attachment_id)
    await bench.run(connect, attachment_id, CONNECTOR)
    await bench.settle()
    after = await bench.row(Attachment, attachment_id)
    assert (after.connection_info, after.attach_status) == (before.connection_info, "attached")
    assert await bench.states(volume_id) == ("in-use", "attached")
    assert bench.export.store.opened == 2


async def test_another_connector_shuts_the_old_one_out_first(bench: Bench) -> None:
    volume_id = await bench.volume()
    attachment_id = await attached(bench, volume_id)
    await bench.run(connect, attachment_id, OTHER)
    bench.export.broken["ensure_connection"] = BackendUnavailableError("away")
    await bench.settle()
    assert bench.served == set()
    assert await bench.states(volume_id) == ("attaching", "attaching")
    assert (await bench.row(Attachment, attachment_id)).connection_info is None
    with pytest.raises(InvalidStateError):
        await bench.run(complete, attachment_id)
    bench.export.broken.clear()
    await bench.settle()
    assert (await bench.row(Attachment, attachment_id)).connection_info["to"] == "node-2"
    assert bench.served == {attachment_id}


async def test_a_refused_connection_leaves_an_attachment_in_error_and_a_free_volume(bench: Bench) -> None:
    volume_id = await bench.volume()
    bench.export.broken["ensure_connection"] = InUseError("another consumer has that name")
    made = await bench.run(reserve, volume_id, connector=CONNECTOR)
    await bench.settle()
    assert await bench.attachments() == {made.attachment["id"]: "error_attaching"}
    assert await bench.states(volume_id) == ("available", "detached")
    assert (await bench.connections(), bench.served) == (set(), set())
    [message] = await bench.messages()
    assert message == "attach volume:Failed to attach volume. another consumer has that name"
    with pytest.raises(InvalidStateError):
        await bench.run(complete, made.attachment["id"])
    assert await bench.run(disconnect, made.attachment["id"]) is None
    assert await bench.attachments() == {}


async def test_an_export_that_is_away_is_waited_for(bench: Bench) -> None:
    volume_id = await bench.volume()
    bench.export.broken["ensure_connection"] = BackendUnavailableError("away")
    made = await bench.run(reserve, volume_id, connector=CONNECTOR)
    await bench.settle()
    assert await bench.states(volume_id) == ("attaching", "attaching")
    with pytest.raises(InvalidStateError):
        await bench.run(complete, made.attachment["id"])
    bench.export.broken.clear()
    await bench.settle()
    await bench.run(complete, made.attachment["id"])
    assert await bench.states(volume_id) == ("in-use", "attached")


async def test_an_end_that_is_refused_is_told_and_can_be_tried_again(bench: Bench) -> None:
    volume_id = await bench.volume()
    attachment_id = await attached(bench, volume_id)
    bench.export.broken["ensure_connection_absent"] = InUseError("it is held")
    await bench.run(disconnect, attachment_id)
    await bench.settle()
    assert await bench.attachments() == {attachment_id: "error_detaching"}
    assert await bench.states(volume_id) == ("in-use", "attached")
    [message] = await bench.messages()
    assert "Failed to detach volume." in message
    bench.export.broken.clear()
    await bench.run(disconnect, attachment_id)
    await bench.settle()
    assert await bench.states(volume_id) == ("available", "detached")


async def test_update_of_a_volume_in_error_is_a_conflict(bench: Bench) -> None:
    volume_id = await bench.volume()
    made = await bench.run(reserve, volume_id)
    await bench.set(Volume, volume_id, status="error_extending")
    with pytest.raises(ConflictError, match="can not be updated if the volume is in an error state"):
        await bench.run(connect, made.attachment["id"], CONNECTOR)
    assert await bench.run(disconnect, made.attachment["id"]) is None
    assert (await bench.states(volume_id)) == ("error_extending", "detached")


async def test_strangers_see_and_change_nothing_and_administrators_act_for_the_owner(bench: Bench) -> None:
    volume_id = await bench.volume()
    with pytest.raises(NotFoundError):
        await bench.run(reserve, volume_id, by=STRANGER)
    made = await bench.run(reserve, volume_id, by=ADMIN)
    attachment_id = made.attachment["id"]
    assert made.attachment["project_id"] == CALLER.project_id
    for intent in (complete, disconnect):
        with pytest.raises(NotFoundError):
            await bench.run(intent, attachment_id, by=STRANGER)
    with pytest.raises(NotFoundError):
        await bench.run(connect, attachment_id, CONNECTOR, by=STRANGER)
    store = bench.cluster.store
    for caller, everything, seen in ((CALLER, False, 1), (STRANGER, True, 0), (ADMIN, False, 0), (ADMIN, True, 1)):
        statement = queries.listing(caller, all_projects=everything)
        assert await store.read(lambda db, page=statement: queries.count(db, page)) == seen


@pytest.mark.parametrize("force", [False, True])
async def test_an_attached_volume_is_not_deleted(bench: Bench, force: bool) -> None:
    volume_id = await bench.volume()
    attachment_id = await attached(bench, volume_id)
    with pytest.raises(InvalidStateError):
        await bench.run(delete_volume, volume_id, force=force)
    await bench.set(Volume, volume_id, status="available")  # an administrator's word changes nothing about that
    with pytest.raises(InvalidStateError):
        await bench.run(delete_volume, volume_id, force=force)
    assert bench.served == {attachment_id}


async def test_a_volume_whose_connection_is_being_made_is_not_deleted(bench: Bench) -> None:
    volume_id = await bench.volume()
    await bench.run(reserve, volume_id, connector=CONNECTOR)
    await bench.set(Volume, volume_id, status="available", attach_status="detached")
    with pytest.raises(InvalidStateError, match="still being worked on"):
        await bench.run(delete_volume, volume_id)


async def test_a_forced_deletion_takes_reservations_along(bench: Bench) -> None:
    volume_id = await bench.volume()
    made = await bench.run(reserve, volume_id)
    with pytest.raises(InvalidStateError):
        await bench.run(delete_volume, volume_id)
    assert await bench.run(delete_volume, volume_id, force=True)
    for intent, args in ((connect, (CONNECTOR,)), (complete, ())):
        with pytest.raises(InvalidStateError, match="still being worked on"):
            await bench.run(intent, made.attachment["id"], *args)
    await bench.settle()
    assert (await bench.rows(Volume), await bench.attachments()) == ([], {})


async def test_what_is_being_deleted_is_not_reserved_whatever_its_state_says(bench: Bench) -> None:
    volume_id = await bench.volume()
    await bench.run(delete_volume, volume_id)
    await bench.set(Volume, volume_id, status="available")
    with pytest.raises(InvalidStateError, match="still being worked on"):
        await bench.run(reserve, volume_id)


async def test_a_secret_is_in_no_step_and_no_operation(bench: Bench) -> None:
    from cluster.journal.records import Operation, OperationStep

    volume_id = await bench.volume()
    attachment_id = await attached(bench, volume_id)
    secret = (await bench.row(VolumeConnection, attachment_id)).secret
    assert len(bytes.fromhex(secret)) == 32
    kept = repr([(row.args, row.error) for row in await bench.rows(Operation)])
    kept += repr([row.result for row in await bench.rows(OperationStep)])
    assert secret[:8] not in kept
    assert secret[:8] in repr((await bench.row(Attachment, attachment_id)).connection_info)
