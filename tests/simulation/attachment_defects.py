"""Defects of attachments and exports that are put into the product, as those of `defects`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import false

from actors.exporting import Exporting
from actors.volume_host import VolumeHost
from cluster.attachments import abandoning, connections, intents, letting_go
from cluster.attachments.queries import CONNECTION
from cluster.flows import close_connection, connection_subject, delete_volume, open_connection
from cluster.flows.run import Run
from cluster.reconcile import connections as reconciling
from cluster.reconcile.connections import ConnectionKeeper
from cluster.volumes import deletion
from tests.simulation.faults import WINDOWS
from tests.simulation.history import Event


async def _nothing(*_args: object) -> None:
    return None


async def _no_result(*_args: object) -> dict[str, Any]:
    return {}


def _a_close_that_leaves_the_export(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Exporting, "ensure_connection_absent", _nothing)


def _an_open_that_nobody_fences(patch: pytest.MonkeyPatch) -> None:
    async def call(self: VolumeHost, method: str, pool: str, args: Any, **context: Any) -> Any:
        if method == "ensure_connection":
            return await self._exporting.ensure_connection(pool, *args)
        return await real(self, method, pool, args, **context)

    real = VolumeHost.call
    patch.setattr(VolumeHost, "call", call)


def _lost_exports_that_are_not_made_again(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(reconciling, "_open_of", lambda *_args: [])


def _strange_exports_that_are_not_ended(patch: pytest.MonkeyPatch) -> None:
    def mend(self: ConnectionKeeper, db: Any, service: str, epoch: int, lost: Any, _strange: Any) -> Any:
        return real(self, db, service, epoch, lost, [])

    real = ConnectionKeeper._mend
    patch.setattr(ConnectionKeeper, "_mend", mend)


def _a_new_connector_without_the_end_of_the_old(patch: pytest.MonkeyPatch) -> None:
    _without_step(patch, "replace")


def _an_open_that_fails_and_leaves_its_export(patch: pytest.MonkeyPatch) -> None:
    _without_step(patch, "retract")


def _without_step(patch: pytest.MonkeyPatch, left_out: str) -> None:
    async def step(self: Run, name: str, act: Any, record: Any = None) -> Any:
        return await real(self, name, _no_result if name == left_out else act, record)

    real = Run.step
    patch.setattr(Run, "step", step)


def _a_new_secret_with_every_export(patch: pytest.MonkeyPatch) -> None:
    real = connection_subject.connection_spec
    secrets = iter(range(1_000_000))
    patch.setattr(connection_subject, "connection_spec", lambda row: replace(real(row), secret=f"{next(secrets):064}"))


def _an_end_that_leaves_the_connection(patch: pytest.MonkeyPatch) -> None:
    def delete(table: Any) -> Any:
        return real(table).where(false()) if table is CONNECTION else real(table)

    real: Any = getattr(close_connection, "delete")  # noqa: B009 - it is SQLAlchemy's, which the module exports not
    patch.setattr(close_connection, "delete", delete)


def _an_end_that_leaves_the_attachment(patch: pytest.MonkeyPatch) -> None:
    def close(*args: Any, settles: bool) -> Any:
        del settles
        return real(*args, settles=False)

    real = connections.close_connections
    patch.setattr(connections, "close_connections", close)


def _a_volume_that_does_not_follow_its_attachments(patch: pytest.MonkeyPatch) -> None:
    for module in (letting_go, close_connection, open_connection):
        patch.setattr(module, "settle", lambda *_args: None)


def _a_delete_that_leaves_whom_the_older_flow_let_in(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(delete_volume, "_disconnect", _no_result)


def _a_delete_of_what_is_attached(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(deletion, "_volume_allows", lambda *_args: True)


def _consumers_that_do_not_hear_of_growth(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Exporting, "resized", _nothing)


def _claims_that_outlive_their_node(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(abandoning, "let_go", lambda *_args: None)


def _two_connectors_for_one_volume(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(intents, "_CONNECTED", ())


# What brings some of them about is too rare in sixty histories: it is added to each.
_ATTACHED = [Event(0.1, "attach", number, number, 1) for number in range(4)]
_ENDED = [Event(0.3, "detach", number, 0, 0) for number in range(4)]
_LET_IN = [Event(0.1, "older", number, number, 4) for number in range(4)]
_DELETED = [Event(0.5, "delete", number, 0, 1) for number in range(4)]
_FOR_ONE_INSTANCE = [Event(0.2, "attach", number % 4, 0, 4) for number in range(8)]
_CONNECTED = [Event(0.2, "connect", number, number, 0) for number in range(4)]
DEFECTS: dict[Callable[[pytest.MonkeyPatch], None], list[Event]] = {
    _a_close_that_leaves_the_export: [],
    _an_open_that_nobody_fences: [
        Event(1.0, "window", WINDOWS.index("delay"), 2, 0, 30.0),
        Event(0.1, "twin", 0, 1, 0, 5.0),
        *_ATTACHED,
    ],
    _lost_exports_that_are_not_made_again: [
        Event(2.0, "write", 0, 0, 0),
        *_ATTACHED,
        Event(1.0, "reboot", 0, 1, 0, 4.0),
    ],
    _strange_exports_that_are_not_ended: [
        Event(2.0, "window", WINDOWS.index("duplicate"), 3, 0, 20.0),
        *_ATTACHED,
        Event(1.0, "write", 0, 0, 0),
        *_ENDED,
    ],
    _a_new_connector_without_the_end_of_the_old: [
        Event(2.0, "write", 0, 0, 0),
        *_ATTACHED,
        Event(1.0, "write", 0, 0, 0),
        *_CONNECTED,
    ],
    _an_open_that_fails_and_leaves_its_export: [
        Event(2.0, "window", WINDOWS.index("final-after"), 3, 0, 3.0),
        *_ATTACHED,
    ],
    _a_new_secret_with_every_export: [],
    _an_end_that_leaves_the_connection: [Event(2.0, "write", 0, 0, 0), *_ATTACHED, *_ENDED],
    _an_end_that_leaves_the_attachment: [Event(2.0, "write", 0, 0, 0), *_ATTACHED, *_ENDED],
    _a_volume_that_does_not_follow_its_attachments: [Event(2.0, "write", 0, 0, 0), *_ATTACHED, *_ENDED],
    _a_delete_that_leaves_whom_the_older_flow_let_in: [
        Event(2.0, "write", 0, 0, 0),
        *_LET_IN,
        Event(1.0, "write", 0, 0, 0),
        *_DELETED,
    ],
    _a_delete_of_what_is_attached: [],
    _consumers_that_do_not_hear_of_growth: [
        Event(2.0, "write", 0, 0, 0),
        *_ATTACHED,
        *(Event(0.2, "complete", number, 0, 0) for number in range(4)),
        *(Event(0.1, "extend", number, 1, 1) for number in range(4)),
    ],
    _claims_that_outlive_their_node: [],
    _two_connectors_for_one_volume: [Event(2.0, "write", 0, 0, 0), *_FOR_ONE_INSTANCE, *_CONNECTED],
}
