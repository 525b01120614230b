"""Defects that are put into the product, one at a time, to see whether the simulation finds them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import update

from actors.volume_host import VolumeHost
from cluster.conductor import Conductor
from cluster.flows import create_snapshot, create_volume, delete_volume, examine, subjects
from cluster.flows.run import Run
from cluster.journal import lease, ledger
from cluster.journal.records import Lease
from cluster.quotas import usage
from cluster.reconcile import listing
from cluster.reconcile.reconciler import Reconciler
from cluster.scheduling.ledger import Ledger
from cluster.snapshots import queries as snapshots
from drivers.memory import MemoryBackend
from tests.simulation import attachment_defects
from tests.simulation.faults import WINDOWS
from tests.simulation.history import Event, draw
from tests.simulation.runner import play

Defect = Callable[[pytest.MonkeyPatch], None]
_SEEDS = 60


def _no_fence_in_the_journal(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(ledger, "check_epoch", lambda _db, _epoch: None)
    _a_conductor_that_never_notices(patch)


def _a_conductor_that_never_notices(patch: pytest.MonkeyPatch) -> None:
    # That it does is what mostly keeps one that was replaced from writing; the journal's fence must hold alone.
    patch.setattr(Conductor, "may_act", lambda self: self.epoch is not None)
    patch.setattr(lease, "renew", lambda *_args, **_options: True)


def _no_fence_at_the_volume_host(patch: pytest.MonkeyPatch) -> None:
    async def admit(_self: VolumeHost, _epoch: int) -> None:
        return None

    patch.setattr(VolumeHost, "_admit", admit)


def _a_driver_that_writes_though_its_storage_was_taken(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(MemoryBackend, "_require_open", lambda _self: None)
    _a_host_that_acts_without_a_lease(patch)


def _a_host_that_acts_without_a_lease(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(VolumeHost, "may_act", property(lambda _self: True))
    patch.setattr(VolumeHost, "_refuse_without_lease", lambda _self: None)
    patch.setattr(VolumeHost, "_note_lease", lambda *_args: None)


def _a_lease_without_epochs(patch: pytest.MonkeyPatch) -> None:
    def take(db: Any, name: str, holder: str, now: float, life_seconds: float) -> int | None:
        epoch = real(db, name, holder, now, life_seconds)
        if epoch is not None:
            db.execute(update(Lease).values(epoch=7))
        return epoch and 7

    real = lease.take
    patch.setattr(lease, "take", take)


def _a_create_that_fails_and_leaves_its_object(patch: pytest.MonkeyPatch) -> None:
    async def nothing(*_args: object) -> dict[str, Any]:
        return {}

    patch.setattr(create_volume, "_retract", nothing)


def _a_snapshot_that_fails_and_leaves_its_object(patch: pytest.MonkeyPatch) -> None:
    async def nothing(*_args: object) -> dict[str, Any]:
        return {}

    patch.setattr(create_snapshot, "_retract", nothing)


def _a_delete_that_removes_rows_only(patch: pytest.MonkeyPatch) -> None:
    async def nothing(*_args: object) -> dict[str, Any]:
        return {}

    patch.setattr(delete_volume, "_remove", nothing)


def _steps_that_are_done_again(patch: pytest.MonkeyPatch) -> None:
    real = Run._step

    async def step(self: Run, name: str, act: Any, record: Any, *, last: bool) -> Any:
        for done in [*self.entry.steps]:
            self.entry.steps.pop(done)  # type: ignore[attr-defined]
        return await real(self, name, act, record, last=last)

    patch.setattr(Run, "_step", step)


def _an_uncertain_outcome_that_counts_as_a_final_one(patch: pytest.MonkeyPatch) -> None:
    async def fail(self: Conductor, entry: Any, epoch: int, error: Exception, *, uncertain: bool) -> None:
        if uncertain:
            await self._fail(entry, epoch, error)
        else:
            await real(self, entry, epoch, error, uncertain=False)

    real = Conductor._later
    patch.setattr(Conductor, "_later", fail)


def _retries_that_are_forgotten(patch: pytest.MonkeyPatch) -> None:
    real = ledger.write_later

    def later(db: Any, entry: Any, epoch: int, _not_before: float, *args: Any, **options: Any) -> None:
        real(db, entry, epoch, 1e12, *args, **options)

    patch.setattr(ledger, "write_later", later)


def _a_failure_that_nobody_is_told_of(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(subjects, "explain", lambda *_args: None)


def _orphans_that_are_not_listed(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(listing, "update", lambda *_args: None)


def _states_that_are_not_mended(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Reconciler, "_set", lambda *_args: False)


def _reservations_that_are_never_recounted(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Ledger, "rebuild", lambda *_args: None)


def _a_source_that_may_be_deleted_while_it_is_copied(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(snapshots, "copies_under_way", lambda *_args, **_options: [])


def _a_reset_that_nobody_is_told_of(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(examine, "_tell", lambda *_args: None)


def _quotas_that_do_not_count(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(usage, "_counts", lambda *_args: {})


DEFECTS: tuple[Defect, ...] = (
    _no_fence_in_the_journal,
    _no_fence_at_the_volume_host,
    _a_driver_that_writes_though_its_storage_was_taken,
    _a_lease_without_epochs,
    _a_create_that_fails_and_leaves_its_object,
    _a_snapshot_that_fails_and_leaves_its_object,
    _a_delete_that_removes_rows_only,
    _steps_that_are_done_again,
    _an_uncertain_outcome_that_counts_as_a_final_one,
    _retries_that_are_forgotten,
    _a_failure_that_nobody_is_told_of,
    _orphans_that_are_not_listed,
    _states_that_are_not_mended,
    _reservations_that_are_never_recounted,
    _a_source_that_may_be_deleted_while_it_is_copied,
    _a_reset_that_nobody_is_told_of,
    _quotas_that_do_not_count,
    *attachment_defects.DEFECTS,
)


# What brings some of them about is too rare in sixty histories: it is added to each.
_TWO_CONDUCTORS = [Event(1.0, "twin", 0, 1, 0, 14.0), *(Event(0.5, "create", number, 0, 0) for number in range(4))]
_OFTEN: dict[Defect, list[Event]] = {
    _no_fence_in_the_journal: _TWO_CONDUCTORS,
    _a_lease_without_epochs: _TWO_CONDUCTORS,
    _no_fence_at_the_volume_host: [
        Event(1.0, "window", WINDOWS.index("delay"), 2, 0, 30.0),
        Event(0.1, "twin", 0, 1, 0, 5.0),
        *(Event(0.1, "create", number, 0, 0) for number in range(3)),
    ],
    _a_snapshot_that_fails_and_leaves_its_object: [
        Event(4.0, "window", WINDOWS.index("final-after"), 3, 0, 5.0),
        *(Event(0.1, "snapshot", number, 0, 0) for number in range(3)),
    ],
    _a_driver_that_writes_though_its_storage_was_taken: [Event(0.5, "twin", 2, 1, 0, 5.0)],
    **attachment_defects.DEFECTS,
}


def finding(name: str) -> str | None:
    """What the first seed says that finds the defect of this name; None: sixty did not find it."""
    [defect] = [one for one in DEFECTS if one.__name__ == name]
    more = _OFTEN.get(defect, [])
    with pytest.MonkeyPatch.context() as patch:
        defect(patch)
        for seed in range(_SEEDS):
            events = draw(seed)
            try:
                play(seed, [*events[:4], *more, *events[4:]])
            except Exception as error:
                return f"seed {seed}: {error}"
    return None


def told_of(name: str, runs: Callable[[], object]) -> str | None:
    """What is told when `runs` fails for the defect of this name, with the notes of the error."""
    [defect] = [one for one in DEFECTS if one.__name__ == name]
    with pytest.MonkeyPatch.context() as patch:
        defect(patch)
        try:
            runs()
        except Exception as error:
            return "\n".join([str(error), *getattr(error, "__notes__", [])])
    return None
