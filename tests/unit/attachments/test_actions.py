"""The older attachment actions: guards, what the volume says, what the export lets in."""

from __future__ import annotations

import asyncio

import pytest

from cluster.attachments import actions, queries
from cluster.attachments.intents import complete, reserve
from cluster.attachments.records import Attachment
from cluster.errors import InvalidInputError, InvalidStateError, NotFoundError
from cluster.volumes.deletion import delete_volume
from cluster.volumes.edits import reset_status
from cluster.volumes.records import Volume, VolumeStatus
from drivers.vocabulary import AccessMode, BackendUnavailableError, InUseError
from tests.unit.attachments.conftest import ADMIN, CONNECTOR, OTHER, STRANGER, Bench

INSTANCE = "11111111-1111-4111-8111-111111111111"


async def attach(bench: Bench, volume_id: str, instance_id: str = INSTANCE, mode: str = "rw") -> None:
    await bench.run(
        *(actions.attach, volume_id), instance_id=instance_id, host_name=None, mountpoint="/dev/vdb", mode=mode
    )


async def initialize(bench: Bench, volume_id: str, connector: dict[str, str]) -> str:
    made = await bench.run(actions.initialize, volume_id, connector)
    await bench.settle()
    return str(made.connection_id)


@pytest.mark.parametrize("multiattach", [False, True])
@pytest.mark.parametrize("status", list(VolumeStatus))
async def test_the_statuses_each_action_takes(bench: Bench, status: VolumeStatus, multiattach: bool) -> None:
    volume_id = await bench.volume(status=status, multiattach=multiattach)
    free = {"available", "in-use"} if multiattach else {"available"}
    if status in free:
        await bench.run(actions.reserve_volume, volume_id)
        assert (await bench.states(volume_id))[0] == "attaching"
    else:
        with pytest.raises(InvalidStateError, match=f"to reserve, but the status is {status}"):
            await bench.run(actions.reserve_volume, volume_id)
    await bench.set(Volume, volume_id, status=status)
    await bench.run(actions.unreserve, volume_id)
    assert (await bench.states(volume_id))[0] == ("available" if status == "attaching" else status)
    await bench.set(Volume, volume_id, status=status, attach_status="attached")
    if status == "in-use":
        await bench.run(actions.begin_detaching, volume_id)
        assert (await bench.states(volume_id))[0] == "detaching"
    else:
        with pytest.raises(InvalidStateError, match="Unable to detach volume"):
            await bench.run(actions.begin_detaching, volume_id)
    await bench.set(Volume, volume_id, status=status)
    await bench.run(actions.roll_detaching, volume_id)
    assert (await bench.states(volume_id))[0] == ("in-use" if status == "detaching" else status)
    await bench.set(Volume, volume_id, status=status, attach_status="detached")
    if status in {"available", "attaching", "reserved", "in-use", "detaching"}:
        await attach(bench, volume_id)
        assert await bench.states(volume_id) == ("in-use", "attached")
    else:
        with pytest.raises(InvalidStateError):
            await attach(bench, volume_id)
        assert await bench.attachments() == {}


async def test_detaching_needs_something_attached_and_no_migration(bench: Bench) -> None:
    volume_id = await bench.volume(status="in-use", attach_status="attaching")
    with pytest.raises(InvalidStateError):
        await bench.run(actions.begin_detaching, volume_id)
    await bench.set(Volume, volume_id, migration_status="migrating")
    await bench.run(actions.begin_detaching, volume_id)
    assert (await bench.states(volume_id))[0] == "in-use"


async def test_the_whole_way_as_older_consumers_go_it(bench: Bench) -> None:
    volume_id = await bench.volume()
    await bench.run(actions.reserve_volume, volume_id)
    made = await bench.run(actions.initialize, volume_id, CONNECTOR)
    await bench.settle()
    assert (await bench.states(volume_id))[0] == "attaching"
    info = await bench.cluster.store.read(lambda db: queries.connection_info(db, made.connection_id))
    assert info is not None
    assert (info["driver_volume_type"], info["data"]["to"], info["data"]["access_mode"]) == ("memory", "node-1", "rw")
    await attach(bench, volume_id)
    [row] = await bench.rows(Attachment)
    assert (row.attach_status, row.instance_id, row.mountpoint, row.attach_mode) == (
        *("attached", INSTANCE),
        *("/dev/vdb", "rw"),
    )
    volume = await bench.row(Volume, volume_id)
    assert (volume.status, volume.attach_status) == ("in-use", "attached")
    assert volume.admin_metadata == {"readonly": "False", "attached_mode": "rw"}
    await bench.run(actions.begin_detaching, volume_id)
    await bench.run(actions.terminate, volume_id, CONNECTOR)
    await bench.settle()
    assert bench.served == set()
    assert (await bench.states(volume_id))[0] == "detaching"
    assert await bench.run(actions.detach, volume_id, attachment_id=row.id) is None
    volume = await bench.row(Volume, volume_id)
    assert (volume.status, volume.attach_status, volume.admin_metadata) == (
        *("available", "detached"),
        {"readonly": "False"},
    )
    assert await bench.attachments() == {}


async def test_a_failed_attach_is_unreserved_by_the_end_of_its_connection(bench: Bench) -> None:
    volume_id = await bench.volume()
    await bench.run(actions.reserve_volume, volume_id)
    await initialize(bench, volume_id, CONNECTOR)
    await bench.run(actions.terminate, volume_id, CONNECTOR)
    assert (await bench.states(volume_id))[0] == "available"
    await bench.settle()
    assert bench.served == set()
    assert await bench.run(actions.terminate, volume_id, CONNECTOR) is None


async def test_one_consumer_has_one_connection(bench: Bench) -> None:
    volume_id = await bench.volume()
    first = await bench.run(actions.initialize, volume_id, CONNECTOR)
    assert await bench.run(actions.initialize, volume_id, CONNECTOR) == first
    await bench.settle()
    before = await bench.cluster.store.read(lambda db: queries.connection_info(db, first.connection_id))
    again = await initialize(bench, volume_id, CONNECTOR)
    after = await bench.cluster.store.read(lambda db: queries.connection_info(db, first.connection_id))
    assert (again, after) == (first.connection_id, before)
    second = await initialize(bench, volume_id, OTHER)
    assert bench.served == {first.connection_id, second}
    await bench.run(actions.terminate, volume_id, None)
    await bench.settle()
    assert (bench.served, await bench.connections()) == (set(), set())


@pytest.mark.parametrize("connector", [{}, {"host": ""}, {"multipath": True}])
async def test_a_connector_that_names_nobody(bench: Bench, connector: dict[str, object]) -> None:
    volume_id = await bench.volume()
    for intent in (actions.initialize, actions.terminate):
        with pytest.raises(InvalidInputError):
            await bench.run(intent, volume_id, connector)


async def test_maintenance_refuses_connections_and_attachments(bench: Bench) -> None:
    volume_id = await bench.volume(status="maintenance")
    for act in (
        bench.run(actions.initialize, volume_id, CONNECTOR),
        attach(bench, volume_id),
        bench.run(actions.detach, volume_id),
    ):
        with pytest.raises(InvalidStateError, match="maintenance mode"):
            await act


async def test_a_read_only_volume(bench: Bench) -> None:
    volume_id = await bench.volume(admin_metadata={"readonly": "True"})
    with pytest.raises(InvalidInputError, match=f"Invalid attaching mode 'rw' for volume {volume_id}"):
        await attach(bench, volume_id)
    connection_id = await initialize(bench, volume_id, CONNECTOR)
    assert bench.export.store.served[connection_id].mode is AccessMode.READ_ONLY
    await attach(bench, volume_id, mode="ro")
    assert await bench.states(volume_id) == ("in-use", "attached")


async def test_the_same_instance_is_attached_once_and_another_is_refused(bench: Bench) -> None:
    volume_id = await bench.volume()
    for _ in range(2):
        await attach(bench, volume_id)
    assert len(await bench.attachments()) == 1
    with pytest.raises(InvalidStateError, match="multiple attachments are not enabled"):
        await attach(bench, volume_id, "22222222-2222-4222-8222-222222222222")
    await bench.set(Volume, volume_id, status="attaching")
    with pytest.raises(InvalidStateError, match="being attached by different mode"):
        await attach(bench, volume_id, mode="ro")


async def test_of_two_instances_at_once_one_is_attached(bench: Bench) -> None:
    volume_id = await bench.volume()
    answers = await asyncio.gather(*(attach(bench, volume_id, f"{n}" * 36) for n in range(2)), return_exceptions=True)
    assert sorted(type(each).__name__ for each in answers) == ["InvalidStateError", "NoneType"]
    assert len(await bench.attachments()) == 1


async def test_several_attachments_are_detached_one_by_one(bench: Bench) -> None:
    volume_id = await bench.volume(multiattach=True)
    await attach(bench, volume_id)
    await attach(bench, volume_id, "22222222-2222-4222-8222-222222222222")
    await initialize(bench, volume_id, CONNECTOR)
    with pytest.raises(InvalidStateError, match="More than one attachment"):
        await bench.run(actions.detach, volume_id)
    first, second = await bench.attachments()
    assert await bench.run(actions.detach, volume_id, attachment_id=first) is None
    assert await bench.states(volume_id) == ("in-use", "attached")
    assert len(bench.served) == 1  # the other may be using it
    assert await bench.run(actions.detach, volume_id, attachment_id=second) is not None
    await bench.settle()
    assert await bench.states(volume_id) == ("available", "detached")
    assert (bench.served, await bench.attachments()) == (set(), {})


async def test_detaching_what_is_not_attached_puts_the_status_right(bench: Bench) -> None:
    volume_id = await bench.volume(status="detaching")
    assert await bench.run(actions.detach, volume_id, attachment_id=INSTANCE) is None
    assert await bench.states(volume_id) == ("available", "detached")
    other = await bench.volume()
    await attach(bench, other)
    [theirs] = await bench.attachments()
    with pytest.raises(InvalidInputError, match="Mismatched volume and attachment"):
        await bench.run(actions.detach, volume_id, attachment_id=theirs)


async def test_a_detach_whose_connection_does_not_end_leaves_the_volume_in_use(bench: Bench) -> None:
    volume_id = await bench.volume()
    await initialize(bench, volume_id, CONNECTOR)
    await attach(bench, volume_id)
    await bench.run(actions.begin_detaching, volume_id)
    bench.export.broken["ensure_connection_absent"] = InUseError("it is held")
    await bench.run(actions.detach, volume_id)
    await bench.settle()
    assert await bench.states(volume_id) == ("in-use", "attached")
    assert set((await bench.attachments()).values()) == {"error_detaching"}
    bench.export.broken.clear()
    await bench.run(actions.detach, volume_id)
    await bench.settle()
    assert await bench.states(volume_id) == ("available", "detached")
    assert bench.served == set()


async def test_force_detach_ends_the_connectors_connection_too(bench: Bench) -> None:
    volume_id = await bench.volume(multiattach=True)
    mine = await initialize(bench, volume_id, CONNECTOR)
    others = await initialize(bench, volume_id, OTHER)
    await attach(bench, volume_id)
    await attach(bench, volume_id, "22222222-2222-4222-8222-222222222222")
    first, second = await bench.attachments()
    await bench.set(Volume, volume_id, status="maintenance")
    await bench.run(actions.force_detach, volume_id, attachment_id=first, connector=CONNECTOR, by=ADMIN)
    await bench.settle()
    assert (bench.served, set(await bench.attachments())) == ({others}, {second})
    assert mine not in await bench.connections()
    await bench.run(actions.force_detach, volume_id, attachment_id=second, by=ADMIN)
    await bench.settle()
    assert (bench.served, await bench.attachments()) == (set(), {})
    assert (await bench.states(volume_id)) == ("maintenance", "detached")


async def test_both_flows_on_one_volume(bench: Bench) -> None:
    """An attachment that ends takes what the older flow left open along, for the volume says `available` then."""
    volume_id = await bench.volume()
    await initialize(bench, volume_id, OTHER)
    made = await bench.run(reserve, volume_id, connector=CONNECTOR)
    await bench.settle()
    await bench.run(complete, made.attachment["id"])
    assert len(bench.served) == 2
    await bench.run(actions.detach, volume_id)
    await bench.settle()
    assert (bench.served, await bench.attachments()) == (set(), {})
    assert await bench.states(volume_id) == ("available", "detached")


async def test_a_volume_is_deleted_with_the_connections_that_are_left(bench: Bench) -> None:
    volume_id = await bench.volume()
    await initialize(bench, volume_id, CONNECTOR)
    bench.export.broken["ensure_connection_absent"] = BackendUnavailableError("away")
    await bench.run(delete_volume, volume_id)
    await bench.settle()
    assert (await bench.states(volume_id))[0] == "deleting"
    with pytest.raises(InvalidStateError, match="still being worked on"):
        await bench.run(actions.initialize, volume_id, OTHER)
    bench.export.broken.clear()
    await bench.settle()
    assert (await bench.rows(Volume), await bench.connections(), bench.served) == ([], set(), set())


async def test_a_reset_to_detached_ends_every_attachment(bench: Bench) -> None:
    volume_id = await bench.volume()
    made = await bench.run(reserve, volume_id, connector=CONNECTOR)
    await bench.settle()
    await bench.run(complete, made.attachment["id"])
    assert await bench.run(reset_status, volume_id, attach_status="detached", by=ADMIN) is not None
    await bench.settle()
    assert (bench.served, await bench.attachments()) == (set(), {})
    assert await bench.states(volume_id) == ("available", "detached")
    await attach(bench, volume_id)
    assert await bench.run(reset_status, volume_id, status="error", attach_status="detached", by=ADMIN) is None
    assert (await bench.states(volume_id), await bench.attachments()) == (("error", "detached"), {})


async def test_strangers_find_no_volume(bench: Bench) -> None:
    volume_id = await bench.volume()
    for intent in (actions.reserve_volume, actions.unreserve, actions.begin_detaching, actions.roll_detaching):
        with pytest.raises(NotFoundError):
            await bench.run(intent, volume_id, by=STRANGER)
    for intent in (actions.initialize, actions.terminate):
        with pytest.raises(NotFoundError):
            await bench.run(intent, volume_id, CONNECTOR, by=STRANGER)
    for intent in (actions.detach, actions.force_detach):
        with pytest.raises(NotFoundError):
            await bench.run(intent, volume_id, by=STRANGER)


async def test_attachments_that_end_at_once_take_what_is_left_along(bench: Bench) -> None:
    volume_id = await bench.volume(multiattach=True)
    for connector in (CONNECTOR, OTHER):
        made = await bench.run(reserve, volume_id, connector=connector)
        await bench.settle()
        await bench.run(complete, made.attachment["id"])
    await initialize(bench, volume_id, {"host": "node-3"})
    for attachment_id in await bench.attachments():
        await bench.run(actions.detach, volume_id, attachment_id=attachment_id)
    for _ in range(2):
        await bench.settle()
    assert (bench.served, await bench.connections(), await bench.attachments()) == (set(), set(), {})
    assert await bench.states(volume_id) == ("available", "detached")
