"""Attachments whose consumer is gone: ended without anybody's credentials, for nobody is left who has them.

A node that mounts for tasks puts its id into its connector (`NODE_KEY`) and the claim's id into the attachment
(`instance_id`). So both the end of a claim and the end of a node are enough to find what is to go. Attachments without
that key are never touched, whatever their `instance_id`; the API takes the key from nodes only. Knows no Ray.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Final

import structlog
from sqlalchemy import Connection, select

from cluster.attachments.letting_go import let_go
from cluster.attachments.queries import ATTACHMENT
from cluster.caller import Caller
from cluster.errors import NotFoundError, UnavailableError
from cluster.journal.outcome import Work, carry_out
from cluster.journal.records import OperationState
from cluster.outside import Outside
from cluster.store.seam import Store
from cluster.volumes import queries as volumes

NODE_KEY: Final = "pumice_node"
# A node that is not among the living for so long has lost its processes.
LOST_SECONDS: Final = 10.0
_WAIT_SECONDS: Final = 20.0
log = structlog.get_logger()


def abandon(db: Connection, outside: Outside, instance_id: str, node_id: str | None = None) -> Work | None:
    """End every attachment of the consumer that a node made (with `node_id`: that node), inside `store.write`. None:
    there was nothing to wait for."""
    node = ATTACHMENT.c.connector[NODE_KEY].as_string()
    rows = db.execute(
        select(ATTACHMENT.c.id, ATTACHMENT.c.volume_id, ATTACHMENT.c.project_id, ATTACHMENT.c.user_id)
        .where(ATTACHMENT.c.instance_id == instance_id, ATTACHMENT.c.connector.is_not(None))
        .where(node.is_not(None) if node_id is None else node == node_id)
        .order_by(ATTACHMENT.c.volume_id, ATTACHMENT.c.id)
    ).all()
    works = []
    for row in rows:
        # Opened in the attachment's own name, but seeing everything: the volume may have changed hands since.
        caller = Caller(user_id=row.user_id, project_id=row.project_id, request_id="", is_admin=True)
        try:
            volumes.get(db, caller, row.volume_id, lock=True)
        except NotFoundError:
            continue  # it was deleted with its attachments
        if db.scalar(select(ATTACHMENT.c.id).where(ATTACHMENT.c.id == row.id)) is not None:  # read with the lock held
            works.append(let_go(db, outside, caller, row.volume_id, row.id))
    found = [work for work in works if work is not None]
    if not found:
        return None
    operations = tuple(dict.fromkeys(each for work in found for each in work.operations))
    return Work(operations, again=any(work.again for work in found))


async def carry_out_abandonment(
    store: Store,
    outside: Outside,
    instance_id: str,
    ring: Callable[[], object],
    *,
    timeout_seconds: float = _WAIT_SECONDS,
) -> None:
    """End every attachment of the consumer and wait until they are gone. Safe to repeat. Raises UnavailableError when
    they are not gone yet: the operations go on, and the same call tells later."""
    _, outcome = await carry_out(
        store,
        outside,
        lambda db: abandon(db, outside, instance_id),
        lambda work: work,
        ring,
        timeout_seconds=timeout_seconds,
    )
    if outcome.state is not OperationState.DONE:
        raise UnavailableError(f"the attachments of {instance_id} have not ended: {outcome.error or 'they are ending'}")


class LostNodes:
    """Remembers since when nodes that have attachments are not among the living."""

    def __init__(self, store: Store, outside: Outside, ring: Callable[[], object]) -> None:
        self._store, self._outside, self._ring = store, outside, ring
        self._missing: dict[str, float] = {}

    async def look(self, living: Collection[str]) -> dict[str, str]:
        """Begin to end the attachments of nodes that were not in `living` (node ids) for LOST_SECONDS. Returns those of
        the missing nodes that still have attachments, with the host that each of them was.

        To be called only with an answer of the cluster: what is not known is not missing. A cluster without any node is
        one that is only coming up.
        """
        if not living:
            return {}
        consumers = await self._store.read(_consumers)
        now = self._outside.monotonic()
        missing = {node: host for node, (host, _) in consumers.items() if node not in living}
        self._missing = {node: self._missing.get(node, now) for node in missing}
        for node, since in list(self._missing.items()):
            if now - since < LOST_SECONDS:
                continue
            for instance_id in consumers[node][1]:
                work = await self._abandon(instance_id, node)
                if work is not None:
                    self._ring()
            self._missing[node] = now  # what fails is tried again, not at once
            log.warning("attachments.node_lost", node=node, host=missing[node], claims=len(consumers[node][1]))
        return missing

    async def _abandon(self, instance_id: str, node_id: str) -> Work | None:
        return await self._store.write(lambda db: abandon(db, self._outside, instance_id, node_id))


def _consumers(db: Connection) -> dict[str, tuple[str, set[str]]]:
    """Node id → its host and the consumers on it, for attachments that were made by nodes of the cluster."""
    node = ATTACHMENT.c.connector[NODE_KEY].as_string()
    found: dict[str, tuple[str, set[str]]] = {}
    rows = db.execute(
        select(node.label("node"), ATTACHMENT.c.attached_host, ATTACHMENT.c.instance_id).where(
            ATTACHMENT.c.connector.is_not(None), ATTACHMENT.c.instance_id.is_not(None)
        )
    )
    for row in rows:
        if row.node is not None:
            found.setdefault(row.node, (row.attached_host or "", set()))[1].add(row.instance_id)
    return found
