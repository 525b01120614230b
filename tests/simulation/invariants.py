"""What must hold once everything goes well again and has come to rest. Each check names what does not."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from cluster.messages.catalogue import Action
from cluster.quotas.usage import usage
from drivers.vocabulary import GIB, ObjectKind
from tests.simulation import attachment_invariants
from tests.simulation.model import MOVING, Granted, Look, Place
from tests.simulation.requests import PROJECT

if TYPE_CHECKING:
    from tests.simulation.world import World

_FAILED = {
    "volume.create": {"error"},
    "volume.extend": {"error_extending"},
    "volume.delete": {"error_deleting", "available", "error"},
    "snapshot.create": {"error"},
    "snapshot.delete": {"error_deleting", "available", "error"},
}


def broken(world: World) -> list[str]:
    """All that is not as it must be; empty when the cluster is at rest and whole."""
    if not world.network.quiet:
        return ["calls are under way"]
    look = world.database.look()
    operations = {row["id"]: row for row in world.database.rows("SELECT * FROM operation ORDER BY rowid")}
    return [
        *_rest(look),
        *_match(world, look),
        *_counts(world, look),
        *_promises(world, look, operations),
        *_examined(world, look),
        *_content(world, look),
        *attachment_invariants.broken(world, look, operations),
    ]


def impossible(world: World) -> list[str]:
    """What may not be at any moment, however much is failing: rows and operations that nobody asked for, and whole
    volumes and snapshots without an object."""
    look, objects = world.database.look(), _objects(world)
    asked = {one.resource_id for one in world.model.granted}
    asked |= {one for granted in world.model.granted for one in granted.args.get("snapshots", ())}
    known = {one.operation_id for one in world.model.granted}
    found = [f"{row['id']} has a row, and nobody asked for it" for row in look.rows() if row["id"] not in asked]
    found += [
        f"operation {row['id']} was asked for by nobody"
        for row in world.database.rows("SELECT id FROM operation WHERE kind NOT LIKE 'connection.%'")
        if row["id"] not in known
    ]
    for kind, row, host in look.placed():
        whole = row["status"] == "available" and row["id"] not in world.model.reset and row["id"] not in look.live
        if whole and (host is None or _place(host, kind, row["id"]) not in objects):
            found.append(f"{kind} {row['id']} is available, but there is no object in {host}")
    return [*found, *attachment_invariants.let_in_by_nobody(world, look)]


def _rest(look: Look) -> Iterator[str]:
    for resource_id, kind in look.live.items():
        yield f"{kind} of {resource_id} is live"
    for row in look.rows():
        if row["status"] in MOVING:
            yield f"{row['id']} is {row['status']}"


def _objects(world: World) -> dict[Place, int]:
    return {
        (service, pool, kind, object_id): found.size_bytes
        for service, store in world.stores.items()
        for pool, content in store.pools().items()
        for (kind, object_id), found in content.objects.items()
    }


def _place(host: str, kind: ObjectKind, object_id: str) -> Place:
    service, _, pool = host.partition("#")
    return service, pool, kind, object_id


def _match(world: World, look: Look) -> Iterator[str]:
    """Rows and objects, one to one."""
    objects = _objects(world)
    grown = {one.resource_id for one in world.model.granted if one.kind == "volume.extend"}
    stood_for: set[Place] = set()
    for kind, row, host in look.placed():
        wrong = row["status"].startswith("error")
        if host is None:
            if not wrong and row["id"] not in world.model.reset:
                yield f"{kind} {row['id']} is {row['status']} and nowhere"
            continue
        place = _place(host, kind, row["id"])
        stood_for.add(place)
        size = objects.get(place)
        if size is None:
            if not wrong:
                yield f"{kind} {row['id']} is {row['status']}, but there is no object in {host}"
        elif size != row["size_gib"] * GIB and not (size > row["size_gib"] * GIB and row["id"] in grown):
            yield f"{kind} {row['id']} of {row['size_gib']} GiB has {size / GIB:g} GiB in {host}"
    listed = {_place(row["host"], ObjectKind(row["kind"]), row["id"]) for row in look.orphans.values()}
    elsewhere = {place[2:] for place in stood_for}
    for place in objects.keys() - stood_for:
        # An object made too late is an orphan, unless its volume has got a row and an object in another pool.
        if place not in world.watch.late:
            yield f"object {place} has no row, and it is not that a call was late: it was left behind"
        elif place not in listed and place[2:] not in elsewhere:
            yield f"object {place} has no row and is not listed as an orphan"
    for place in listed - objects.keys():
        yield f"orphan {place} is listed and is not there"
    for place in listed & stood_for:
        yield f"orphan {place} has a row"


def _counts(world: World, look: Look) -> Iterator[str]:
    """Quotas and reservations equal a recount."""
    counted = world.database.run(lambda db: usage(db, PROJECT))
    for resource, number in look.usage().items():
        if counted[resource].total != number:
            yield f"quota: {counted[resource].total} {resource} are used, a recount says {number}"
    actor = world.current["scheduler"].actor
    promised: dict[str, tuple[str, int]] = {
        volume_id: (entry.host, entry.gib) for volume_id, entry in actor.desk._scheduler._ledger._entries.items()
    }
    recorded = {
        row["id"]: (row["host"], max(row["size_gib"], row["target_size_gib"] or 0))
        for row in look.volumes.values()
        if row["host"] is not None
    }
    if promised != recorded:
        yield f"reservations differ from the records: {sorted(set(promised.items()) ^ set(recorded.items()))}"


def _promises(world: World, look: Look, operations: dict[str, Any]) -> Iterator[str]:
    """Each request that was committed happened exactly once, or is an error that the user was told of."""
    told = {row["resource_uuid"] for row in world.database.rows("SELECT resource_uuid FROM message")}
    state: dict[str, set[str] | None] = {}
    sizes: dict[str, int] = {}
    for one in world.model.granted:
        operation = operations.get(one.operation_id) if one.operation_id else None
        if one.operation_id and operation is None:
            yield f"{one.kind} of {one.resource_id} was committed and is lost"
            continue
        if one.kind.startswith(("attachment.", "action.")) or one.kind.endswith(".examine"):
            continue  # attachments have their own reckoning; an examination changes nothing
        failed = operation is not None and operation["state"] == "failed"
        if failed and operation is not None:
            yield from _failure(one, operation, told)
            if one.kind == "snapshot.create":
                yield from _nothing_of(world, one.resource_id)
        _fold(state, one, failed)
        if one.kind == "volume.create" or ("size_gib" in one.args and not failed):
            sizes[one.resource_id] = one.args["size_gib"]
    yield from _left(world, look, state, sizes)
    known = {one.operation_id for one in world.model.granted}
    for operation_id in operations.keys() - known:
        if not operations[operation_id]["kind"].startswith("connection."):
            yield f"operation {operation_id} was asked for by nobody"


def _examined(world: World, look: Look) -> Iterator[str]:
    """Whoever owns a resource whose state was reset was told once for each reset what is true."""
    resets = Counter(one.resource_id for one in world.model.granted if one.kind.endswith(".examine"))
    statement = "SELECT resource_uuid, count(*) AS number FROM message WHERE action_id = ? GROUP BY resource_uuid"
    told = {row["resource_uuid"]: row["number"] for row in world.database.rows(statement, Action.RESET_STATUS.value[0])}
    there = {row["id"] for row in look.rows()}
    for resource_id in resets.keys() | told.keys():
        asked, number = resets[resource_id], told.get(resource_id, 0)
        if number > asked or (number < asked and resource_id in there):
            yield f"the state of {resource_id} was reset {asked} times, and its project was told {number} times"


def _left(world: World, look: Look, state: dict[str, set[str] | None], sizes: dict[str, int]) -> Iterator[str]:
    """The rows are those that the requests left behind."""
    rows: dict[str, Any] = {**look.volumes, **look.snapshots}
    for resource_id, allowed in state.items():
        row = rows.pop(resource_id, None)
        if (row is None) != (allowed is None):
            yield f"{resource_id} is {row and row['status']}; it should be {allowed and sorted(allowed)}"
        elif row is not None and allowed is not None:
            said = attachment_invariants.allowed_statuses(world, look, resource_id) if "available" in allowed else set()
            if row["status"] not in allowed | said and resource_id not in world.model.reset:
                yield f"{resource_id} is {row['status']}; it should be {sorted(allowed | said)}"
            if resource_id in sizes and row["size_gib"] != sizes[resource_id]:
                yield f"{resource_id} has {row['size_gib']} GiB; it should have {sizes[resource_id]}"
    for resource_id in rows:
        yield f"{resource_id} has a row, and nobody asked for it"


def _nothing_of(world: World, object_id: str) -> Iterator[str]:
    for place in _objects(world).keys() - world.watch.late:
        if place[3] == object_id:
            yield f"{object_id} could not be made, and yet there is {place}"


def _failure(one: Granted, operation: Any, told: set[str]) -> Iterator[str]:
    error = operation["error"] or ""
    if one.kind.startswith("orphan."):
        if not error:
            yield f"{one.kind} of {one.resource_id} failed without a reason"
        return
    if "has no row" in error:
        yield f"{one.kind} of {one.resource_id} lost its resource: {error}"
    if one.resource_id not in told:
        yield f"{one.kind} of {one.resource_id} failed ({error}) and nobody was told"
    verdict = json.loads(operation["failing"])["error"] if operation["failing"] else None
    if verdict in (None, "UncertainError", "StaleEpochError", "FencedError", "StoreUnavailableError"):
        yield f"{one.kind} of {one.resource_id} failed for {verdict}, which is no reason to give up: {error}"


def _fold(state: dict[str, set[str] | None], one: Granted, failed: bool) -> None:
    """What the request leaves behind: the states its resources may have; None: no row."""
    if one.kind == "orphan.delete":
        return
    if one.kind == "orphan.adopt":
        state[one.resource_id] = None if failed else {"available"}
        return
    if not failed:
        state[one.resource_id] = None if one.kind.endswith(".delete") else {"available"}
    else:
        state[one.resource_id] = _FAILED[one.kind] | (state.get(one.resource_id) or set())
    if one.kind == "volume.create" and failed:
        state[one.resource_id] = {"error"}
    for snapshot_id in one.args.get("snapshots", ()):
        state[snapshot_id] = {"error_deleting"} if failed else None


def _content(world: World, look: Look) -> Iterator[str]:
    """Every whole volume and snapshot has the bytes it must have."""
    for (service, pool, kind, object_id), mark in world.model.content.items():
        rows = look.volumes if kind is ObjectKind.VOLUME else look.snapshots
        found = world.stores[service].pool(pool).objects.get((kind, object_id))
        if found is None or object_id not in rows:
            continue
        block = found.blocks.get(0)
        actual = block.content[: len(mark)] if block is not None else bytes(len(mark))
        if actual != mark:
            yield f"{kind} {object_id} in {service}#{pool} begins with {actual!r} instead of {mark!r}"
