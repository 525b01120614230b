"""The requests under test, each with what is there before it and with what must be there when it is over."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from sqlalchemy import Connection, delete, update

from actors.in_process import InProcessCluster
from cluster.attachments import abandoning, actions, connections
from cluster.attachments import intents as attachments
from cluster.attachments.queries import ATTACHMENT, CONNECTION
from cluster.caller import Caller
from cluster.outside import Outside
from cluster.reconcile import connections as reconciling
from cluster.reconcile import intents as orphans
from cluster.snapshots import intents as snapshots
from cluster.volumes import deletion, edits, intents
from cluster.volumes.intents import NewVolume
from cluster.volumes.queries import VOLUME
from drivers.vocabulary import (
    BackendUnavailableError,
    ConnectionItem,
    FinalError,
    NoSpaceError,
    ObjectKind,
    UncertainError,
)
from tests.unit.attachments.memory_export import ExportStore
from tests.unit.flows.crash_storage import Fault, Key

V1, V2, S1, A1 = (f"00000000-0000-4000-8000-{number:012d}" for number in (1, 2, 3, 4))
OLDER_1, OLDER_2 = (connections.connection_of(V1, f"host:n{number}") for number in (1, 2))
VOLUME_1, VOLUME_2 = (ObjectKind.VOLUME, V1), (ObjectKind.VOLUME, V2)
SNAPSHOT_1 = (ObjectKind.SNAPSHOT, S1)
CALLER = Caller(user_id="u", project_id="p", request_id="req-1", is_admin=True)
Request = Callable[[Connection, InProcessCluster], object]


def _named(cluster: InProcessCluster, new_id: str) -> Outside:
    """The first id that is asked for is `new_id`."""
    ids = itertools.chain([new_id], iter(cluster.outside.new_id, None))
    return replace(cluster.outside, new_id=lambda: next(ids))


def create(volume_id: str = V1, **wanted: Any) -> Request:
    """POST /volumes."""
    wanted = {"size_gib": 1, **wanted}
    return lambda db, on: intents.create(db, on.settings, _named(on, volume_id), CALLER, NewVolume(**wanted))


def take(db: Connection, on: InProcessCluster) -> None:
    """POST /snapshots."""
    snapshots.create(db, on.settings, _named(on, S1), CALLER, V1)


def _extend(db: Connection, on: InProcessCluster) -> None:
    intents.extend(db, on.settings, on.outside, CALLER, V1, 4)


def _extend_attached(db: Connection, on: InProcessCluster) -> None:
    intents.extend(db, on.settings, on.outside, CALLER, V1, 4, in_use=True)


def _delete(db: Connection, on: InProcessCluster) -> None:
    deletion.delete_volume(db, on.outside, CALLER, V1)


def _cascade(db: Connection, on: InProcessCluster) -> None:
    deletion.delete_volume(db, on.outside, CALLER, V1, cascade=True)


def _drop(db: Connection, on: InProcessCluster) -> None:
    snapshots.delete(db, on.outside, CALLER, S1)


def _adopt(db: Connection, on: InProcessCluster) -> None:
    orphans.adopt(db, on.outside, CALLER, V1, name="found", volume_type_id=None)


def _delete_orphan(db: Connection, on: InProcessCluster) -> None:
    orphans.delete(db, on.settings, on.outside, CALLER, V1)


def _reset(db: Connection, on: InProcessCluster) -> None:
    edits.reset_status(db, on.outside, CALLER, V1, status="error")


def _reset_snapshot(db: Connection, on: InProcessCluster) -> None:
    snapshots.reset_status(db, on.outside, CALLER, S1, "error")


def _attach(db: Connection, on: InProcessCluster) -> None:
    attachments.reserve(db, _named(on, A1), CALLER, V1, connector={"host": "n1"})


def _attach_readonly(db: Connection, on: InProcessCluster) -> None:
    attachments.reserve(db, _named(on, A1), CALLER, V1, connector={"host": "n1"}, mode="ro")


def _attach_by_a_node(db: Connection, on: InProcessCluster) -> None:
    connector = {"host": "n1", abandoning.NODE_KEY: "node 1"}
    attachments.reserve(db, _named(on, A1), CALLER, V1, instance_id="claim 1", connector=connector)


def _abandon(db: Connection, on: InProcessCluster) -> None:
    abandoning.abandon(db, on.outside, "claim 1", "node 1")


def _reserve(db: Connection, on: InProcessCluster) -> None:
    attachments.reserve(db, _named(on, A1), CALLER, V1)


def _attach_and_detach(db: Connection, on: InProcessCluster) -> None:
    """The end is asked for while the connection is being opened: it is to be asked for again after that."""
    _attach(db, on)
    _disconnect(db, on)


def _complete(db: Connection, on: InProcessCluster) -> None:
    attachments.complete(db, on.outside, CALLER, A1)


def _connect(host: str) -> Request:
    return lambda db, on: attachments.connect(db, on.outside, CALLER, A1, {"host": host})


def _disconnect(db: Connection, on: InProcessCluster) -> None:
    attachments.disconnect(db, on.outside, CALLER, A1)


def _fail_to_detach(db: Connection, _on: InProcessCluster) -> None:
    db.execute(update(ATTACHMENT).values(attach_status="error_detaching"))


def _force_detach(db: Connection, on: InProcessCluster) -> None:
    actions.force_detach(db, on.outside, CALLER, V1, attachment_id=A1, connector={"host": "n2"})


def _reset_attachments(db: Connection, on: InProcessCluster) -> None:
    edits.reset_status(db, on.outside, CALLER, V1, attach_status="detached")


def _consumers(on: InProcessCluster) -> ExportStore:
    [host] = on.hosts.values()
    export: Any = host._exporting._exports[0]
    store: ExportStore = export.store
    return store


def _lose(_db: Connection, on: InProcessCluster) -> None:
    """The node is rebooted."""
    _consumers(on).served.clear()


def _forget(db: Connection, _on: InProcessCluster) -> None:
    """What is served is of a connection that the records know no more."""
    db.execute(delete(CONNECTION))
    db.execute(delete(ATTACHMENT))
    db.execute(update(VOLUME).values(status="available", attach_status="detached"))


def _compare(db: Connection, on: InProcessCluster) -> None:
    """What the comparison writes when it finds connections lost or strange."""
    service, epoch, served = next(iter(on.hosts)), on.conductor.epoch, _consumers(on).served
    assert epoch is not None
    lost = [one for one in reconciling._open_of(db, service, "") if one.id not in served]
    known = reconciling._known(db, served)
    strange = [ConnectionItem(each, one.volume_id) for each, one in served.items() if each not in known]
    reconciling.ConnectionKeeper(on.conductor._context)._mend(db, service, epoch, lost, strange)


def _initialize(host: str) -> Request:
    return lambda db, on: actions.initialize(db, on.outside, CALLER, V1, {"host": host})


def _terminate(db: Connection, on: InProcessCluster) -> None:
    actions.terminate(db, on.outside, CALLER, V1, {"host": "n1"})


def _attach_older(db: Connection, on: InProcessCluster) -> None:
    actions.attach(db, _named(on, A1), CALLER, V1, instance_id="i", host_name=None, mountpoint="/dev/vdb")


def _detach_older(db: Connection, on: InProcessCluster) -> None:
    actions.detach(db, on.outside, CALLER, V1)


BEFORE: Mapping[str, Sequence[Request]] = {
    "volume": (create(),),
    "snapshot": (create(), take),
    "attached": (create(), _attach, _complete),
    "reserved": (create(), _reserve),
    "claimed": (create(), _attach_by_a_node, _complete),
    "undetached": (create(), _attach, _complete, _fail_to_detach),
    "lost": (create(), _attach, _complete, _lose),
    "strange": (create(), _attach, _forget),
    "both": (create(), _attach, _complete, _initialize("n2")),
    "exported": (create(), _initialize("n1")),
    "older": (create(), _initialize("n1"), _initialize("n2"), _attach_older),
}


@dataclass(frozen=True)
class Script:
    """`before` names what is there (see `crash_play.prepared`). When `request` is over, `left` are the objects with
    their GiB, `rows` the statuses (of an attachment: its attach status), `told` the resources that a message is about,
    in `operations` that are all `outcome`. `lets_in`: who is let in then, host by connection. `copies`: which object
    the request makes from which. `grown`: which servers were told of which volume's growth by a Nova that says
    `nova_answers`."""

    before: str
    request: Request
    left: Mapping[Key, int]
    rows: Mapping[str, str]
    outcome: str = "done"
    told: tuple[str, ...] = ()
    faults: tuple[Fault, ...] = ()
    copies: Mapping[Key, Key] = field(default_factory=dict)
    lets_in: Mapping[str, str] = field(default_factory=dict)
    operations: int = 1
    grown: Mapping[str, list[str]] = field(default_factory=dict)
    nova_answers: bool = True
    mode: str = "rw"


def _refuses() -> Exception:
    return FinalError("the storage refuses")


def _full() -> Exception:
    return NoSpaceError("the pool is full")


def _away() -> Exception:
    return BackendUnavailableError("the pool is not mounted")


def _silent() -> Exception:
    return UncertainError("the node went away")


_FAILS = {"outcome": "failed", "told": (V1,)}
_ONE: Mapping[Key, int] = {VOLUME_1: 1}
_BOTH: Mapping[Key, int] = {VOLUME_1: 1, SNAPSHOT_1: 1}
_WHOLE = {V1: "available"}
_WHOLES = {V1: "available", S1: "available"}
_CLONE = Script(
    "volume", create(V2, source_volid=V1), {VOLUME_1: 1, VOLUME_2: 1}, {V1: "available", V2: "available"},
    copies={VOLUME_2: VOLUME_1},
)  # fmt: skip
_EXTEND = Script("volume", _extend, {VOLUME_1: 4}, _WHOLE)
_TAKE = Script("volume", take, _BOTH, _WHOLES, copies={SNAPSHOT_1: VOLUME_1})
_ATTACHING = {V1: "attaching", A1: "attaching"}
_ATTACHED = {V1: "in-use", A1: "attached"}
_UNATTACHED = {V1: "available", A1: "error_attaching"}
_UNDETACHED = {V1: "in-use", A1: "error_detaching"}
_ATTACH = Script("volume", _attach, _ONE, _ATTACHING, lets_in={A1: "n1"})
_ATTACH_FAILS = Script("volume", _attach, _ONE, _UNATTACHED, **_FAILS, faults=(Fault("ensure_connection", _refuses),))
_ATTACH_AGAIN = Script("attached", _connect("n1"), _ONE, _ATTACHED, lets_in={A1: "n1"})
_ATTACH_ANEW = Script("attached", _connect("n2"), _ONE, _ATTACHING, lets_in={A1: "n2"})
_DETACH = Script("attached", _disconnect, _ONE, _WHOLE)
_EXTEND_OLDER = Script(
    "older", _extend_attached, {VOLUME_1: 4}, _ATTACHED, lets_in={OLDER_1: "n1", OLDER_2: "n2"}, grown={V1: ["i"]}
)
_RESET = Script("volume", _reset, _ONE, {V1: "error"}, told=(V1,))
_RESET_SNAPSHOT = Script("snapshot", _reset_snapshot, _BOTH, {V1: "available", S1: "error"}, told=(S1,))


def _exhausted(script: Script, method: str, undo: str | None = None, *, effect: bool = False) -> Script:
    """It refuses until that is final; then the outcome of the undo's first call is not known."""
    faults = [Fault(method, _away)]
    if undo is not None:
        faults.append(Fault(undo, _silent, 1, after_effect=effect))
    return replace(script, outcome="failed", faults=tuple(faults))


SCRIPTS: Mapping[str, Script] = {
    "create": Script("nothing", create(), _ONE, _WHOLE),
    "create-fails": Script(
        "nothing", create(), {}, {V1: "error"}, **_FAILS, faults=(Fault("ensure_volume", _refuses),)
    ),
    "create-full": Script("nothing", create(), {}, {V1: "error"}, **_FAILS, faults=(Fault("ensure_volume", _full),)),
    "create-again": Script("nothing", create(), _ONE, _WHOLE, faults=(Fault("ensure_volume", _away, 1),)),
    "create-uncertain": Script("nothing", create(), _ONE, _WHOLE, faults=(Fault("ensure_volume", _silent, 1, True),)),
    "create-exhausted": _exhausted(
        Script("nothing", create(), {}, {V1: "error"}, told=(V1,)), "ensure_volume", "ensure_volume_absent"
    ),
    "clone": _CLONE,
    "clone-uncertain": replace(_CLONE, faults=(Fault("ensure_volume_from_volume", _silent, 1, True),)),
    "restore": Script(
        "snapshot", create(V2, snapshot_id=S1), {**_BOTH, VOLUME_2: 1}, {**_WHOLES, V2: "available"},
        copies={VOLUME_2: SNAPSHOT_1},
    ),
    "restore-grown": Script(
        "snapshot", create(V2, snapshot_id=S1, size_gib=3), {**_BOTH, VOLUME_2: 3}, {**_WHOLES, V2: "available"},
        copies={VOLUME_2: SNAPSHOT_1},
    ),
    "extend": _EXTEND,
    "extend-uncertain": replace(_EXTEND, faults=(Fault("ensure_size", _silent, 1, True),)),
    "extend-fails": Script(
        "volume", _extend, _ONE, {V1: "error_extending"}, **_FAILS, faults=(Fault("ensure_size", _refuses),)
    ),
    "extend-exhausted": _exhausted(
        Script("volume", _extend, _ONE, {V1: "error_extending"}, told=(V1,)), "ensure_size"
    ),
    "delete": Script("volume", _delete, {}, {}),
    "delete-uncertain": Script("volume", _delete, {}, {}, faults=(Fault("ensure_volume_absent", _silent, 1, True),)),
    "delete-fails": Script(
        "volume", _delete, _ONE, {V1: "error_deleting"}, **_FAILS, faults=(Fault("ensure_volume_absent", _refuses),)
    ),
    "cascade": Script("snapshot", _cascade, {}, {}),
    "cascade-again": Script("snapshot", _cascade, {}, {}, faults=(Fault("ensure_volume_absent", _away, 1),)),
    "snapshot": _TAKE,
    "snapshot-uncertain": replace(_TAKE, faults=(Fault("ensure_snapshot", _silent, 1, True),)),
    "snapshot-fails": Script(
        "volume", take, _ONE, {V1: "available", S1: "error"},
        outcome="failed", told=(S1,), faults=(Fault("ensure_snapshot", _refuses),),
    ),
    "snapshot-exhausted": _exhausted(
        Script("volume", take, _ONE, {V1: "available", S1: "error"}, told=(S1,)),
        "ensure_snapshot", "ensure_snapshot_absent", effect=True,
    ),
    "snapshot-delete": Script("snapshot", _drop, _ONE, _WHOLE),
    "snapshot-delete-uncertain": Script(
        "snapshot", _drop, _ONE, _WHOLE, faults=(Fault("ensure_snapshot_absent", _silent, 1, True),)
    ),
    "snapshot-delete-fails": Script(
        "snapshot", _drop, _BOTH, {V1: "available", S1: "error_deleting"},
        outcome="failed", told=(S1,), faults=(Fault("ensure_snapshot_absent", _refuses),),
    ),
    "orphan-adopt": Script("orphan", _adopt, _ONE, _WHOLE),
    "orphan-adopt-again": Script("orphan", _adopt, _ONE, _WHOLE, faults=(Fault("ensure_size", _away, 1),)),
    "orphan-adopt-fails": Script(
        "orphan", _adopt, _ONE, {}, outcome="failed", faults=(Fault("ensure_size", _refuses),)
    ),
    "orphan-delete": Script("orphan", _delete_orphan, {}, {}),
    "orphan-delete-uncertain": Script(
        "orphan", _delete_orphan, {}, {}, faults=(Fault("ensure_volume_absent", _silent, 1, True),)
    ),
    "orphan-delete-fails": Script(
        "orphan", _delete_orphan, _ONE, {}, outcome="failed", faults=(Fault("ensure_volume_absent", _refuses),)
    ),
    "stray-delete": Script("stray", _delete_orphan, {}, {V1: "error"}),
    "attach": _ATTACH,
    "attach-retried": replace(_ATTACH, faults=(Fault("ensure_connection", _away, 1),)),
    "attach-exhausted": _exhausted(
        replace(_ATTACH_FAILS, faults=()), "ensure_connection", "ensure_connection_absent", effect=True
    ),
    "attach-reserved": replace(_ATTACH, before="reserved", request=_connect("n1")),
    "attach-reserved-fails": replace(_ATTACH_FAILS, before="reserved", request=_connect("n1")),
    "attach-readonly": replace(_ATTACH, request=_attach_readonly, mode="ro"),
    "attach-and-detach": replace(_ATTACH, request=_attach_and_detach),
    "lost": Script("lost", _compare, _ONE, _ATTACHED, lets_in={A1: "n1"}),
    "lost-uncertain": Script(
        "lost", _compare, _ONE, _ATTACHED, lets_in={A1: "n1"}, faults=(Fault("ensure_connection", _silent, 1, True),)
    ),
    "strange": Script("strange", _compare, _ONE, _WHOLE),
    "attach-uncertain": replace(_ATTACH, faults=(Fault("ensure_connection", _silent, 1, True),)),
    "attach-fails": _ATTACH_FAILS,
    "attach-fails-open": replace(
        _ATTACH_FAILS,
        faults=(
            Fault("ensure_connection", _refuses, after_effect=True),
            Fault("ensure_connection_absent", _silent, 1, True),
        ),
    ),
    "attach-anew": _ATTACH_ANEW,
    "attach-anew-fails": replace(_ATTACH_FAILS, before="attached", request=_connect("n2")),
    "attach-again": _ATTACH_AGAIN,
    "attach-again-fails": replace(_ATTACH_AGAIN, **_FAILS, faults=(Fault("ensure_connection", _refuses),)),
    "detach": _DETACH,
    "detach-retried": replace(_DETACH, faults=(Fault("ensure_connection_absent", _away, 1),)),
    "detach-undetached": replace(_DETACH, before="undetached"),
    "detach-abandoned": replace(_DETACH, before="claimed", request=_abandon),
    "detach-by-force": replace(_DETACH, before="both", request=_force_detach, operations=2),
    "detach-by-reset": replace(_DETACH, request=_reset_attachments, operations=2, told=(V1,)),
    "detach-uncertain": replace(_DETACH, faults=(Fault("ensure_connection_absent", _silent, 1, True),)),
    "detach-fails": Script(
        "attached", _disconnect, _ONE, _UNDETACHED,
        **_FAILS, faults=(Fault("ensure_connection_absent", _refuses),), lets_in={A1: "n1"},
    ),
    "extend-attached": Script(
        "attached", _extend_attached, {VOLUME_1: 4}, _ATTACHED, faults=(Fault("resized", _away, 1),), lets_in={A1: "n1"}
    ),
    "extend-older": _EXTEND_OLDER,
    "extend-older-untold": replace(_EXTEND_OLDER, told=(V1,), nova_answers=False),
    "extend-attached-uncertain": Script(
        "attached", _extend_attached, {VOLUME_1: 4}, _ATTACHED, faults=(Fault("resized", _silent, 1, True),),
        lets_in={A1: "n1"},
    ),
    "terminate-older": Script("older", _terminate, _ONE, _ATTACHED, lets_in={OLDER_2: "n2"}),
    "detach-older": Script("older", _detach_older, _ONE, _WHOLE, operations=2),
    "detach-older-fails": Script(
        "older", _detach_older, _ONE, _UNDETACHED, outcome="failed", told=(V1, V1), operations=2,
        faults=(Fault("ensure_connection_absent", _refuses),), lets_in={OLDER_1: "n1", OLDER_2: "n2"},
    ),
    "delete-exported": Script("exported", _delete, {}, {}),
    "delete-exported-fails": Script(
        "exported", _delete, _ONE, {V1: "error_deleting"},
        **_FAILS, faults=(Fault("ensure_connection_absent", _refuses),), lets_in={OLDER_1: "n1"},
    ),
    "reset": _RESET,
    "reset-again": replace(_RESET, faults=(Fault("inventory", _silent, 1),)),
    "reset-unseen": replace(_RESET, outcome="failed", faults=(Fault("inventory", _silent),)),
    "reset-snapshot": _RESET_SNAPSHOT,
    "reset-snapshot-unseen": replace(_RESET_SNAPSHOT, outcome="failed", faults=(Fault("inventory", _away),)),
}  # fmt: skip
