"""Finding strays: objects of a service whose id has a row, and which are not the object that this row stands for.

Nothing is called a stray on suspicion, since a person may then delete it. A pool or a host that goes by another name
now, say, shows the only object of many rows in a place that no row names. So a stray is called one only when its row's
own object was seen, too, where the row places it (or the row places it nowhere), while nothing worked on the row, and
the row was the same before and after both were looked for.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence

import structlog

from cluster.flows.run import Context
from cluster.reconcile.standing import Standing, standings
from cluster.scheduling.host_name import service_of
from cluster.services.queries import living
from drivers.vocabulary import InventoryItem, StorageError

Strays = Mapping[str, tuple[InventoryItem, Standing]]
log = structlog.get_logger()


async def find(
    context: Context, epoch: int, service: str, found: Sequence[InventoryItem], known: Collection[tuple[str, str]]
) -> Strays:
    """The strays among what the inventory of `service` has `found`, by id, each with the standing of its row; whoever
    writes them down compares that once more. `known` are ids and hosts of orphans that are listed already; they are
    passed over. Raises StorageError when the service itself does not answer a second time."""
    suspects = [item for item in found if (item.id, f"{service}#{item.pool}") not in known]
    before = await context.store.read(lambda db: standings(db, [item.id for item in suspects]))
    suspects = [item for item in suspects if _is_suspect(before.get(item.id), service, item)]
    if not suspects:
        return {}
    since = context.outside.seconds() - context.settings.timing.service_down
    alive = await context.store.read(lambda db: living(db, since))
    hosts = {before[item.id].host for item in suspects}
    inventories = {service: await context.ports.inventory(service, epoch=epoch)}
    for other in ({service_of(host) for host in hosts if host is not None} & alive) - {service}:
        try:
            inventories[other] = await context.ports.inventory(other, epoch=epoch)
        except StorageError as error:
            log.warning("reconcile.unanswered", host=other, error=str(error))
    after = await context.store.read(lambda db: standings(db, [item.id for item in suspects]))
    still = {(item.kind, item.id, item.pool) for item in inventories[service]}
    return {
        item.id: (item, after[item.id])
        for item in suspects
        if (item.kind, item.id, item.pool) in still
        and after.get(item.id) == before[item.id]
        and _own_was_seen(before[item.id], inventories)
    }


def _is_suspect(standing: Standing | None, service: str, item: InventoryItem) -> bool:
    return standing is not None and standing.settled and standing.may_be_strayed_from_by(service, item)


def _own_was_seen(standing: Standing, inventories: Mapping[str, Iterable[InventoryItem]]) -> bool:
    if standing.host is None:
        return True
    service = service_of(standing.host)
    return standing.is_among(service, inventories.get(service, ()))
