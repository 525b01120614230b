"""The API of a simulation for consumers: attachments, the older actions, and the claims of nodes that die. As the real
one does, it waits for the operations that see to a request before it answers."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

from sqlalchemy import Connection

from cluster.attachments import actions, connections
from cluster.attachments import intents as attachments
from cluster.attachments.abandoning import LOST_SECONDS, NODE_KEY, LostNodes, abandon
from cluster.errors import RequestError
from cluster.journal.outcome import Work, carry_out
from cluster.journal.records import OperationState
from cluster.store.seam import StoreError
from cluster.volumes import edits
from tests.simulation import attachment_rules as rules
from tests.simulation.claims import Asked
from tests.simulation.model import Look, Refusal, rows
from tests.simulation.requests import ADMIN, ALICE, Replica, chosen_of, newest

_WAIT_SECONDS = 20.0
_WANTED = 4  # so many volumes are wanted most, and so many attachments are worked on
OLDER = (
    *("reserve", "unreserve", "begin_detaching", "roll_detaching", "initialize", "initialize", "attach", "attach"),
    *("terminate", "detach", "force_detach"),
)


class ConsumersReplica(Replica):
    """A replica that also answers consumers."""

    async def attach(self, pick: int, size: int, how: int) -> None:
        """An attachment: reserved alone, or with a connector, perhaps by a node that mounts for tasks."""
        if not self._model.volumes:
            return
        volume_id = self._wanted(pick)
        host = rules.HOSTS[size % 3]
        connector: dict[str, Any] | None = {"host": host} if how % 4 else None
        instance_id = f"instance {size % 2}"
        if how % 3 == 0:
            instance_id = f"claim {size % 3}"
            connector = {"host": host, NODE_KEY: f"node {host}"}
        claims = self._model.claims

        def work(db: Connection) -> Work | None:
            made = attachments.reserve(
                *(db, self._outside, ALICE, volume_id),
                instance_id=instance_id,
                connector=connector,
                mode="ro" if how % 5 == 0 else None,
            )
            claims.add(made.attachment["id"], volume_id)
            claims.marked.pop(volume_id, None)
            self._note(db, made.attachment["id"], "open" if made.work else "reserve", made.work)
            return made.work

        await self._carry_out(lambda look: rules.create(look, volume_id, instance_id), work)

    async def connect(self, pick: int, size: int, _how: int) -> None:
        """A connector for an attachment."""
        if not self._model.claims.attachments:
            return
        one = chosen_of(self._model.claims.attachments[-_WANTED:], pick)

        def work(db: Connection) -> Work | None:
            found = attachments.connect(db, self._outside, ALICE, one, {"host": rules.HOSTS[size % 3]})
            self._note(db, one, "open", found)
            return found

        await self._carry_out(partial(rules.connect, attachment_id=one), work)

    async def complete(self, pick: int, _size: int, _how: int) -> None:
        """The consumer has the volume."""
        if not self._model.claims.attachments:
            return
        one = chosen_of(self._model.claims.attachments[-_WANTED:], pick)

        def work(db: Connection) -> None:
            attachments.complete(db, self._outside, ALICE, one)
            self._note(db, one, "complete", None)

        await self._carry_out(partial(rules.complete, attachment_id=one), work)

    async def detach(self, pick: int, _size: int, _how: int) -> None:
        """An attachment ends."""
        if not self._model.claims.attachments:
            return
        one = chosen_of(self._model.claims.attachments[-_WANTED:], pick)

        def work(db: Connection) -> Work | None:
            found = attachments.disconnect(db, self._outside, ALICE, one)
            self._note(db, one, "end", found)
            return found

        await self._carry_out(partial(rules.end, attachment_id=one), work)

    async def older(self, pick: int, size: int, how: int) -> None:
        """One of the older actions."""
        if not self._model.volumes:
            return
        volume_id, action = self._wanted(pick), OLDER[how % len(OLDER)]
        mode = "ro" if how % 7 == 0 else "rw"
        instance_id = f"instance {size % 2}"
        connector = {"host": rules.HOSTS[size % 3]}
        common: tuple[Any, ...] = (self._outside, ALICE, volume_id)

        def work(db: Connection) -> Work | None:
            before = Look.at(db)
            there = before.attachments_of(volume_id)
            found: Work | None = None
            if action == "initialize":
                found = actions.initialize(db, self._outside, ALICE, volume_id, connector).work
            elif action == "attach":
                actions.attach(db, *common, instance_id=instance_id, host_name=None, mountpoint="/dev/vdb", mode=mode)
                known = {one["id"] for one in there}
                for one in Look.at(db).attachments_of(volume_id):
                    if one["id"] not in known:
                        self._model.claims.add(one["id"], volume_id)
                        self._note(db, one["id"], "attach", None)
            elif action == "terminate":
                found = actions.terminate(db, self._outside, ALICE, volume_id, connector if how % 2 else None)
            elif action == "detach":
                found = actions.detach(db, *common)
            elif action == "force_detach":
                found = actions.force_detach(db, *common, connector=connector if how % 2 else None)
            else:
                name = "reserve_volume" if action == "reserve" else action
                getattr(actions, name)(db, *common)
            if "detach" in action and not action.endswith("_detaching"):
                for one in there:
                    self._note(db, one["id"], "end", found)
            self._mark(db, volume_id, before.volumes[volume_id]["status"], action)
            return found

        await self._carry_out(lambda look: rules.older(look, action, volume_id, instance_id, mode), work)

    async def abandon(self, pick: int, size: int, how: int) -> None:
        """A claim ends because its consumer is gone, or all of a node because the node is."""
        host = rules.HOSTS[size % 3]
        if how % 2:
            instance_id = f"claim {pick % 3}"
            await self._carry_out(None, lambda db: self._abandon(db, instance_id, None))
            return
        lost = LostNodes(self._store, self._outside, self._world.ring)
        lost._abandon = self._abandon_of_node  # type: ignore[method-assign]
        others = {f"node {one}" for one in rules.HOSTS if one != host}
        try:
            await lost.look(others)
            await asyncio.sleep(LOST_SECONDS)
            await lost.look(others)
        except StoreError:
            self._world.trace("unknown")

    async def detach_by_reset(self, pick: int, _size: int, _how: int) -> None:
        """An administrator says that nobody has the volume."""
        if not self._model.volumes:
            return
        volume_id, model = self._wanted(pick), self._model

        def work(db: Connection) -> Work | None:
            look = Look.at(db)
            if volume_id not in look.volumes:
                return None
            found = edits.reset_status(db, self._outside, ADMIN, volume_id, attach_status="detached")
            model.reset.add(volume_id)
            model.grant("volume.examine", volume_id, newest(db, "volume.examine"))
            for one in look.attachments_of(volume_id):
                self._note(db, one["id"], "end", found)
            return found

        await self._carry_out(None, work)

    def _wanted(self, pick: int) -> str:
        return chosen_of(self._model.volumes[:_WANTED], pick)

    async def _abandon_of_node(self, instance_id: str, node_id: str) -> Work | None:
        return await self._store.write(lambda db: self._abandon(db, instance_id, node_id))

    def _abandon(self, db: Connection, instance_id: str, node_id: str | None) -> Work | None:
        before = Look.at(db).attachments
        found = abandon(db, self._outside, instance_id, node_id)
        for one in before.values():
            node = json.loads(one["connector"] or "{}").get(NODE_KEY)
            if one["instance_id"] == instance_id and node is not None and node_id in (None, node):
                self._note(db, one["id"], "end", found)
        return found

    def _note(self, db: Connection, attachment_id: str, what: str, work: Work | None) -> None:
        """Remember what was committed of the attachment."""
        row = Look.at(db).attachments.get(attachment_id)
        shows = None if row is None else row["attach_status"]
        mine = () if work is None else work.operations
        asked = Asked(attachment_id, what, mine, work is not None and work.again, shows)
        self._model.claims.asked.append(asked)
        self._model.grant(f"attachment.{what}", attachment_id, None)

    def _mark(self, db: Connection, volume_id: str, before: str, action: str) -> None:
        """Remember what the volume says without an attachment that says so."""
        status = Look.at(db).volumes[volume_id]["status"]
        self._model.grant(f"action.{action}", volume_id, None)
        if action in ("reserve", "begin_detaching"):
            self._model.claims.marked[volume_id] = status
        elif status != before:
            self._model.claims.marked.pop(volume_id, None)

    async def _carry_out(
        self, predict: Callable[[Look], Refusal] | None, work: Callable[[Connection], Work | None]
    ) -> None:
        """Run the transaction and wait as the API does; what is answered then must be true."""
        world, worked_on = self._world, list[tuple[str, str]]()
        self._model.asked += 1

        def intent(db: Connection) -> Work | None:
            found = self._judged(db, predict, work)
            worked_on[:] = [] if found is None else self._worked_on(db, found.operations)
            return found

        try:
            _, outcome = await carry_out(
                *(self._store, self._outside, intent, lambda found: found, world.ring), timeout_seconds=_WAIT_SECONDS
            )
        except RequestError as error:
            world.trace("refused", type(error).__name__)
        except StoreError:
            world.trace("unknown")
        else:
            world.trace("answer", outcome.state)
            gone = {OperationState.DONE: connections.CLOSE, OperationState.FAILED: connections.OPEN}
            world.watch.told_gone(each for kind, each in worked_on if kind == gone.get(outcome.state))

    @staticmethod
    def _worked_on(db: Connection, operations: Iterable[str]) -> list[tuple[str, str]]:
        """What the operations do, and to which connections."""
        statement = "SELECT kind, resource_id FROM operation WHERE id = ?"
        return [(row["kind"], row["resource_id"]) for each in operations for row in rows(db, statement, each)]
