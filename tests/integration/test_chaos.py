"""A short run of `tests.chaos`: every kind of fault once, under load. `make chaos` is the long one.

Held are the promises: all settles within 60 s, no accepted request is lost, records, files and quotas agree.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from tests.chaos.faults import KINDS, POSTGRESQL, Fault
from tests.chaos.ledger import Verdict
from tests.chaos.place import own_place
from tests.chaos.rounds import Run, run
from tests.chaos.settling import PROMISED_SECONDS

pytestmark = pytest.mark.timeout(900)
_SEED = 20261122
# What hangs is ended after 15 s and a raylet takes everything with it, so these come several at once.
_SQLITE = (
    (Fault("kill volume"), Fault("kill conductor"), Fault("kill scheduler")),
    (Fault("kill replica"), Fault("kill controller")),
    (Fault("kill haproxy"),),
    (Fault("kill proxy"), Fault("kill fallback")),
    (Fault("kill gcs"), Fault("pause replica", 3)),
    # Longer than the lease: who goes on believes that it has it.
    (Fault("pause conductor", 12), Fault("pause volume", 8), Fault("pause scheduler", 5), Fault("pause gcs", 4)),
    (Fault("hang volume"), Fault("hang conductor"), Fault("hang scheduler"), Fault("hang haproxy")),
    (Fault("hang replica"), Fault("hang proxy"), Fault("hang controller"), Fault("hang gcs")),
    (Fault("pause raylet", 3),),
    (Fault("hang raylet"),),
    (Fault("kill raylet"), Fault("kill agent"), Fault("kill up")),
)
_POSTGRESQL = ((Fault(POSTGRESQL, 3),), (Fault(POSTGRESQL, 1), Fault("kill conductor")))


def _run(database: str, rounds: Sequence[Sequence[Fault]]) -> Run:
    with own_place(database) as place:
        place.keep = True
        done = asyncio.run(run(place, _SEED, rounds, lambda line: print(line, flush=True)))
        place.keep = bool(done.broken)
    return done


# Whoever kills the raylet starts everything anew, which is CPU time: twice as much of it is no defect on a machine that
# is half as fast, or half taken by others. `make chaos` holds all to the 60 s that are promised.
_ANEW = {"kill raylet", "kill agent", "kill up", "hang raylet"}
_ANEW_SECONDS = 150.0


def _check(done: Run, rounds: Sequence[Sequence[Fault]]) -> None:
    assert [text for one in done.rounds for text in one.broken] == []
    for one in done.rounds:
        assert one.settled is not None, one
        assert one.settled <= (_ANEW_SECONDS if {*one.kinds} & _ANEW else PROMISED_SECONDS), one
    assert [one.kinds for one in done.rounds] == [[fault.kind for fault in faults] for faults in rounds]
    assert done.ledger.verdicts[Verdict.ACKNOWLEDGED] > 10 * len(rounds)


def test_every_process_is_killed_and_stopped_under_load() -> None:
    assert {fault.kind for faults in _SQLITE for fault in faults} == set(KINDS)
    done = _run("sqlite", _SQLITE)
    _check(done, _SQLITE)
    asked = {what for what, label in done.ledger.requests if label == "202"}
    assert asked == {"create", "clone", "create from snapshot", "snapshot", "extend", "delete"}


def test_the_database_server_is_killed_under_load() -> None:
    _check(_run("postgresql", _POSTGRESQL), _POSTGRESQL)
