"""What must hold of attachments and of whom exports let in, once all is at rest. Each check names what does not."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from drivers.vocabulary import GIB
from tests.simulation.attachment_rules import GOVERNED, standing
from tests.simulation.claims import Asked
from tests.simulation.model import Look, Row

if TYPE_CHECKING:
    from tests.simulation.world import World

GONE = "gone"
_FIRM = (None, "UncertainError", "StaleEpochError", "FencedError", "StoreUnavailableError")
Operations = Mapping[str, Mapping[str, Any]]


def broken(world: World, look: Look, operations: Operations) -> Iterator[str]:
    """All of it."""
    yield from _served(world, look)
    yield from _rows(look)
    yield from _statuses(world, look)
    yield from _asked(world, look, operations)
    yield from _connections(look, operations)
    yield from _failures(world, look, operations)


def allowed_statuses(world: World, look: Look, volume_id: str) -> set[str]:
    """What a whole volume may say: what its attachments say, or what its newest consumer is about to do."""
    there = look.attachments_of(volume_id)
    allowed = {standing(there)[0], world.model.claims.marked.get(volume_id, "available" if not there else "in-use")}
    return (allowed if there else allowed - {"in-use"}) | {
        one["attach_status"] for one in there if one["attach_status"] in ("reserved", "attaching")
    }


def let_in_by_nobody(world: World, look: Look) -> Iterator[str]:
    """Whoever is let in without a record, though nothing works on it and no message was late: at any moment."""
    for consumers in world.consumers.values():
        for each in consumers.served.keys() - look.connections.keys() - look.live.keys() - world.watch.let_in_late:
            yield f"connection {each} is served, and no record lets it in"


def _served(world: World, look: Look) -> Iterator[str]:
    """Whom the records let in is let in, once, as they say, and nobody else."""
    served: dict[str, list[str]] = {}
    for service, consumers in world.consumers.items():
        for each, spec in consumers.served.items():
            served.setdefault(each, []).append(service)
            row = look.connections.get(each)
            if row is None:
                yield f"connection {each} of volume {spec.volume_id} is served by {service}, and has no row"
                continue
            wanted = (row["volume_id"], json.loads(row["connector"]), row["mode"], row["secret"])
            found = (spec.volume_id, dict(spec.connector), spec.mode.value, spec.secret)
            if found != wanted and each not in world.watch.let_in_late:
                yield f"connection {each} lets in {found[:3]}; the records say {wanted[:3]}, or it has another secret"
            volume = look.volumes[row["volume_id"]]
            if consumers.seen_bytes[each] < volume["size_gib"] * GIB:
                yield f"the consumer of connection {each} sees {consumers.seen_bytes[each] / GIB:g} GiB of {volume}"
    for each, row in look.connections.items():
        leaving = look.attachments.get(each, {}).get("attach_status") == "error_detaching"
        host = (look.volumes[row["volume_id"]]["host"] or "").partition("#")[0]
        at = served.get(each, [])
        if at != [host] and not (leaving and not at):
            yield f"connection {each} of volume {row['volume_id']} in {host} is served by {at}"


def _rows(look: Look) -> Iterator[str]:
    """Attachments, their connections and what they show of them agree."""
    for each, row in look.connections.items():
        if row["info"] is None:
            yield f"connection {each} has no info, and nothing makes it"
        if row["consumer"] == f"attachment:{each}" and each not in look.attachments:
            yield f"connection {each} is left without its attachment"
    for each, one in look.attachments.items():
        status, connected = one["attach_status"], each in look.connections
        older = one["connector"] is None  # the older flow has its connections beside its attachments
        expected = {
            "reserved": False, "attaching": True, "attached": not older, "error_attaching": False,
            "error_detaching": connected,
        }  # fmt: skip
        if status not in expected:
            yield f"attachment {each} is {status}, and nothing works on it"
        elif connected != expected[status]:
            yield f"attachment {each} is {status} and has {'a' if connected else 'no'} connection"
        if (one["connection_info"] is not None) != connected:
            yield f"attachment {each} shows {one['connection_info']}, and has {'a' if connected else 'no'} connection"
        if connected and not older:
            row = look.connections[each]
            if (json.loads(row["connector"]), row["mode"]) != (json.loads(one["connector"]), one["attach_mode"]):
                yield f"attachment {each} is of {one['connector']} {one['attach_mode']}, its connection of another"


def _statuses(world: World, look: Look) -> Iterator[str]:
    """A volume says what its attachments say."""
    for volume_id, row in look.volumes.items():
        if volume_id in world.model.reset:
            continue
        allowed = allowed_statuses(world, look, volume_id)
        if row["status"] in GOVERNED and row["status"] not in allowed:
            yield f"volume {volume_id} is {row['status']}; by its attachments it is {sorted(allowed)}"
        expected = standing(look.attachments_of(volume_id))[1]
        if row["attach_status"] != expected:
            yield f"volume {volume_id} has attach status {row['attach_status']}; by its attachments it is {expected}"


def _asked(world: World, look: Look, operations: Operations) -> Iterator[str]:
    """Each request happened once, or is an error; what nobody asked for has not happened."""
    gone = {row["resource_id"] for row in operations.values() if _done(row, "volume.delete")}
    state: dict[str, set[str]] = {}
    for asked in world.model.claims.asked:
        lost = [each for each in asked.operations if each not in operations]
        if lost:
            yield f"{asked.what} of attachment {asked.attachment_id} was committed, and {lost} are lost"
            continue
        before = state.get(asked.attachment_id, set())
        state[asked.attachment_id] = _after(asked, before, [operations[each] for each in asked.operations])
    for each, allowed in state.items():
        row = look.attachments.get(each)
        volume_gone = row is None and not _volumes_left(world, look, each, gone)
        status = GONE if row is None else row["attach_status"]
        if status not in allowed and not volume_gone:
            yield f"attachment {each} is {status}; it should be {sorted(allowed)}"
    for each in look.attachments.keys() - state.keys():
        yield f"attachment {each} has a row, and nobody asked for it"


def _volumes_left(world: World, look: Look, attachment_id: str, gone: set[str]) -> bool:
    """Whether the attachment's volume is there still: with it all its attachments go."""
    volume_id = world.model.claims.volume_of[attachment_id]
    return volume_id in look.volumes or volume_id not in gone


def _after(asked: Asked, before: set[str], operations: list[Mapping[str, Any]]) -> set[str]:
    """What the attachment may say when the request is over, if it said one of `before`."""
    failed = any(row["state"] == "failed" for row in operations)
    if asked.what in ("reserve", "attach", "complete"):
        return {"reserve": {"reserved"}, "attach": {"attached"}, "complete": {"attached"}}[asked.what]
    if asked.what == "open":
        if asked.again:
            return before
        stays = {asked.shows or GONE}
        again = any(json.loads(row["args"])["how"] == "again" for row in operations)
        return stays if again or not failed else {"error_attaching"}
    if asked.again:
        closing = any(row["kind"] == "connection.close" for row in operations)
        return before | {GONE, "error_detaching"} if closing else before
    return {"error_detaching"} if failed else {GONE}


def _connections(look: Look, operations: Operations) -> Iterator[str]:
    """There are just the connections that the operations on them have left: the last one that ended says."""
    left: dict[str, bool] = {}
    for row in operations.values():  # in the order in which they were opened: one at a time works on a connection
        if row["kind"] == "connection.open":
            again = json.loads(row["args"])["how"] == "again"
            left[row["resource_id"]] = row["state"] == "done" or (again and left.get(row["resource_id"], False))
        elif row["kind"] == "connection.close" and row["state"] == "done":
            left[row["resource_id"]] = False
    volumes = {
        row["resource_id"]: json.loads(row["args"])["volume_id"]
        for row in operations.values()
        if row["kind"].startswith("connection.")
    }
    expected = {each for each, is_left in left.items() if is_left and volumes[each] in look.volumes}
    for each in expected ^ look.connections.keys():
        yield f"connection {each} {'has no' if each in expected else 'has a'} row; its operations say otherwise"


def _failures(world: World, look: Look, operations: Operations) -> Iterator[str]:
    """Nothing is given up without a reason, and a volume's owner is told."""
    told = {row["resource_uuid"] for row in world.database.rows("SELECT resource_uuid FROM message")}
    for row in operations.values():
        if not row["kind"].startswith("connection.") or row["state"] != "failed":
            continue
        args, error = json.loads(row["args"]), row["error"] or ""
        if args["volume_id"] not in look.volumes:
            continue
        if "has no row" in error or "is nowhere" in error:
            yield f"{row['kind']} of {row['resource_id']} lost its resource: {error}"
            continue
        if "host" not in args and args["volume_id"] not in told:
            yield f"{row['kind']} of {row['resource_id']} failed ({error}) and nobody was told"
        verdict = json.loads(row["failing"])["error"] if row["failing"] else None
        if verdict == "InUseError" and row["resource_id"] not in world.watch.ever_late:
            yield f"{row['kind']} of {row['resource_id']}: another consumer was not shut out before: {error}"
        if verdict in _FIRM:
            yield f"{row['kind']} of {row['resource_id']} failed for {verdict}, which is no reason to give up: {error}"


def _done(row: Row, kind: str) -> bool:
    return (row["kind"], row["state"]) == (kind, "done")
