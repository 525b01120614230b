"""What must hold once the service is settled. Each check names what does not; nothing here changes the service.

What was uncertain is looked up in passing: from then on the ledger knows it for certain.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tests.chaos.ledger import Item, Ledger, Verdict
from tests.chaos.place import Place
from tests.chaos.users import Api
from tests.integration import disk

Row = Mapping[str, Any]
COLLECTIONS = ("volumes", "snapshots")


async def broken(place: Place, api: Api, ledger: Ledger) -> list[str]:
    """All that is not as it must be."""
    rows: dict[str, list[Row]] = {}
    for collection in COLLECTIONS:
        found = await api.every(collection)
        if found is None:
            return [f"GET /{collection}/detail does not answer"]
        rows[collection] = list(found)
    usage = await api.quietly("GET", f"/os-quota-sets/{api.project_id}?usage=true")
    told = await api.quietly("GET", "/messages?limit=1000")
    return [
        *promises(ledger, rows),
        *_errors(rows, told.body),
        *_quotas(rows, usage.body),
        *await asyncio.to_thread(lambda: [*_files(place, rows), *_content(place, ledger, rows), *_database(place)]),
    ]


def promises(ledger: Ledger, rows: Mapping[str, list[Row]]) -> Iterator[str]:
    """What was accepted has happened, what was refused has not, the rest once or not at all."""
    names = Counter((collection, str(row["name"])) for collection in COLLECTIONS for row in rows[collection])
    for (collection, name), count in names.items():
        if count > 1:
            yield f"{collection} {name}: there are {count}, and one was asked for"
    there = {(collection, str(row["name"])): row for collection in COLLECTIONS for row in rows[collection]}
    kept = []
    for item in ledger.items:
        row = there.pop((item.collection, item.name), None)
        if row is None:
            if item.creation is Verdict.ACKNOWLEDGED and item.deletion is None:
                yield f"{item.collection} {item.name} ({item.id}) was accepted, never deleted, and is not there"
            continue
        if item.deletion is Verdict.ACKNOWLEDGED:
            yield f"{item.collection} {item.name} ({item.id}): its deletion was accepted, and it is {row['status']}"
        if item.id is not None and item.id != row["id"]:
            yield f"{item.collection} {item.name} was accepted as {item.id} and is {row['id']}"
        if row["size"] not in item.sizes:
            yield f"{item.collection} {item.name} ({row['id']}) has {row['size']} GiB instead of {sorted(item.sizes)}"
        item.id, item.sizes, item.creation, item.deletion = row["id"], {row["size"]}, Verdict.ACKNOWLEDGED, None
        kept.append(item)
    for collection, name in there:
        yield f"{collection} {name} is there, and nobody asked for it or it was gone already"
    ledger.items[:] = kept


def _errors(rows: Mapping[str, list[Row]], told: Mapping[str, Any]) -> Iterator[str]:
    """No fault here is a reason to fail a request for good."""
    messages = {message["resource_uuid"]: message["user_message"] for message in told.get("messages", [])}
    for collection in COLLECTIONS:
        for row in rows[collection]:
            if row["status"] != "available":
                yield f"{collection} {row['id']} is {row['status']}: {messages.get(row['id'], 'without a message')}"


def _quotas(rows: Mapping[str, list[Row]], body: Mapping[str, Any]) -> Iterator[str]:
    """Usage equals a recount, and nothing is reserved."""
    counted = {name: len(rows[name]) for name in COLLECTIONS}
    counted["gigabytes"] = sum(row["size"] for name in COLLECTIONS for row in rows[name])
    for name, number in counted.items():
        used = body.get("quota_set", {}).get(name, {})
        if (used.get("in_use"), used.get("reserved")) != (number, 0):
            yield f"quota of {name}: {used}, and there are {number}"


def _path(place: Place, collection: str, item_id: str) -> Path:
    path = disk.volume_file if collection == "volumes" else disk.snapshot_file
    return path(place.service, item_id)


def _files(place: Place, rows: Mapping[str, list[Row]]) -> Iterator[str]:
    """A file for each row, a row for each file, of the same size."""
    files = disk.files(place.service)
    for collection in COLLECTIONS:
        for row in rows[collection]:
            path = _path(place, collection, row["id"])
            if path.name not in files:
                yield f"{collection} {row['id']} is {row['status']} and has no file"
                continue
            files.remove(path.name)
            if path.stat().st_size != row["size"] * disk.GIB:
                yield f"{path.name} has {path.stat().st_size} bytes, and its row says {row['size']} GiB"
    for name in sorted(files):
        yield f"file {name} has no row"


def _content(place: Place, ledger: Ledger, rows: Mapping[str, list[Row]]) -> Iterator[str]:
    """What was written into a volume is in it and in all copies of it, and nothing else is."""
    there = {row["id"] for collection in COLLECTIONS for row in rows[collection]}
    for item in ledger.items:
        if item.id in there and item.blocks is not None and (found := _blocks(place, item)) != item.blocks:
            yield f"{item.collection} {item.name} ({item.id}) contains {found} instead of {item.blocks}"


def _blocks(place: Place, item: Item) -> dict[int, str] | None:
    try:
        return disk.blocks(_path(place, item.collection, str(item.id)))
    except FileNotFoundError:
        return None


def _database(place: Place) -> Iterator[str]:
    if damage := place.database_damage():
        yield f"the database is damaged: {damage}"
