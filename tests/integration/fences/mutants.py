"""The product with a fence taken out, each in the process to which it is given. Evidence that finds none of these is no
evidence."""

from __future__ import annotations

import fcntl
from typing import Any

from sqlalchemy import update

from actors.volume_host import VolumeHost
from cluster.conductor import Conductor
from cluster.journal import ledger
from drivers.reflink import epoch, hold


def none() -> None:
    """The product as it is."""


def conductor_without_fences() -> None:
    """Neither the journal nor its own clock stop a conductor that was replaced."""

    def unfenced(db: Any, operation_id: str, epoch: int, **values: Any) -> None:
        db.execute(update(ledger._OP).where(ledger._OP.c.id == operation_id).values(epoch=epoch, **values))

    ledger._fenced = unfenced  # type: ignore[assignment]
    ledger.check_epoch = lambda _db, _epoch: None
    Conductor.may_act = lambda _self: True  # type: ignore[method-assign]


def host_without_epochs() -> None:
    """The volume host and its storage obey whoever calls."""

    async def admit(self: VolumeHost, _epoch: int) -> None:
        self._refuse_without_lease()

    VolumeHost._admit = admit  # type: ignore[method-assign]
    epoch.admit = lambda *_args: None


def pool_without_lock() -> None:
    """The pool is held by everybody who opens it."""

    class Unlocked:
        LOCK_EX, LOCK_NB = fcntl.LOCK_EX, fcntl.LOCK_NB

        @staticmethod
        def flock(_descriptor: int, _operation: int) -> None:
            return None

    hold.fcntl = Unlocked  # type: ignore[attr-defined]


def host_without_lease() -> None:
    """The volume host acts, lease or not."""
    VolumeHost._refuse_without_lease = lambda _self: None  # type: ignore[method-assign]


def conductor_without_clock() -> None:
    """A conductor goes on until somebody refuses it."""
    Conductor.may_act = lambda _self: True  # type: ignore[method-assign]
