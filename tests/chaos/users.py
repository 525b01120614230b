"""The load: clients that make, copy, snapshot, extend, look at and delete volumes over HTTP, and think in between.

Each works on what it made itself, so what must become of it is known. A request without a clear answer is made again
after a pause, as a person or a tool would do it; each attempt is in the ledger.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import random
from collections.abc import Callable
from pathlib import Path

import httpx

from tests.chaos.ledger import Answer, Item, Ledger, Verdict
from tests.integration.disk import BLOCK, GIB

REQUEST_SECONDS = 15.0
_ATTEMPTS = 4
_WATCH_SECONDS = 20.0
_MANY = 7  # of a client's volumes: from here on it deletes rather than creates
_MICROVERSION = "volume 3.70"


class Api:
    """Requests below `/v3/{project}`, each counted."""

    def __init__(self, endpoint: str, project_id: str, token: str, ledger: Ledger) -> None:
        headers = {"X-Auth-Token": token, "OpenStack-API-Version": _MICROVERSION}
        limits = httpx.Limits(max_connections=64, max_keepalive_connections=64)
        self._http = httpx.AsyncClient(
            base_url=f"{endpoint}/v3/{project_id}",
            headers=headers,
            timeout=REQUEST_SECONDS,
            limits=limits,
            trust_env=False,
        )
        self._ledger = ledger
        self.project_id = project_id

    async def ask(self, what: str, method: str, path: str, body: object = None) -> Answer:
        """The answer to one request; no answer is one, too."""
        answer = await self.quietly(method, path, body)
        self._ledger.count(what, answer)
        return answer

    async def quietly(self, method: str, path: str, body: object = None, seconds: float = REQUEST_SECONDS) -> Answer:
        """As `ask`, of the checks' own requests: not counted."""
        try:
            reply = await self._http.request(method, path, json=body, timeout=seconds)
        except httpx.HTTPError as error:
            return Answer(Verdict.UNKNOWN, None, type(error).__name__)
        if reply.status_code < 300:
            return Answer(Verdict.ACKNOWLEDGED, reply.status_code, None, reply.json() if reply.content else {})
        verdict = Verdict.REFUSED if 400 <= reply.status_code < 500 else Verdict.UNKNOWN
        return Answer(verdict, reply.status_code, None)

    async def every(self, collection: str) -> list[dict[str, object]] | None:
        """All rows of a collection with their details; None when the service did not tell."""
        rows: list[dict[str, object]] = []
        while True:
            marker = f"&marker={rows[-1]['id']}" if rows else ""
            answer = await self.quietly("GET", f"/{collection}/detail?limit=500{marker}")
            page = answer.body.get(collection)
            if answer.verdict is not Verdict.ACKNOWLEDGED or not isinstance(page, list):
                return None
            rows += page
            if len(page) < 500:
                return rows

    async def close(self) -> None:
        """End the connections."""
        await self._http.aclose()


class User:
    """One client. `file_of` says where a volume's bytes are; `think` is the mean pause between actions, in seconds."""

    def __init__(
        self,
        number: int,
        api: Api,
        ledger: Ledger,
        chance: random.Random,
        file_of: Callable[[str], Path],
        think: float,
    ) -> None:
        self._label, self._api, self._ledger, self._chance = f"u{number:02d}", api, ledger, chance
        self._file_of, self._think = file_of, think
        self._count = 0
        self._mine: list[Item] = []

    async def work(self, stop: asyncio.Event) -> None:
        """Act and think until asked to stop; then end with the answer to what is under way."""
        while not stop.is_set():
            await self._act(stop)
            await _sleep(stop, self._chance.expovariate(1 / self._think))

    async def _act(self, stop: asyncio.Event) -> None:
        self._mine = [item for item in self._mine if item.usable]
        volumes = [item for item in self._mine if item.collection == "volumes"]
        snapshots = [item for item in self._mine if item.collection == "snapshots"]
        free = [item for item in volumes if all(snapshot.parent is not item for snapshot in snapshots)]
        draw = self._chance.random()
        if not volumes:
            await self._create(stop, None)
        elif draw < 0.2:
            await self._look(self._chance.choice(self._mine))
        elif len(volumes) >= _MANY or draw < 0.42:
            doomed = snapshots if snapshots and (not free or draw < 0.3) else free
            await self._delete(stop, self._chance.choice(doomed))
        elif draw < 0.62:
            await self._create(stop, None)
        elif draw < 0.74:
            await self._snapshot(stop, self._chance.choice(volumes))
        elif draw < 0.86:
            of = snapshots if snapshots and draw < 0.8 else volumes
            await self._create(stop, self._chance.choice(of))
        else:
            await self._extend(stop, self._chance.choice(volumes))

    async def _create(self, stop: asyncio.Event, source: Item | None) -> None:
        size = max(source.sizes) if source is not None else 1
        body: dict[str, object] = {"size": size}
        what = "create"
        if source is not None:
            what = "clone" if source.collection == "volumes" else "create from snapshot"
            body["source_volid" if source.collection == "volumes" else "snapshot_id"] = source.id
        item = await self._make(stop, "volumes", what, body, {size}, source, None)
        if item is not None and source is None and await self._is_made(stop, item) and self._chance.random() < 0.5:
            await asyncio.to_thread(self._write, item)

    async def _snapshot(self, stop: asyncio.Event, volume: Item) -> None:
        body: dict[str, object] = {"volume_id": volume.id}
        await self._make(stop, "snapshots", "snapshot", body, volume.sizes, volume, volume)

    async def _make(
        self,
        stop: asyncio.Event,
        collection: str,
        what: str,
        body: dict[str, object],
        sizes: set[int],
        source: Item | None,
        parent: Item | None,
    ) -> Item | None:
        """Ask until there is an answer; the item when it was accepted."""
        self._count += 1
        for attempt in range(_ATTEMPTS):
            name = f"{self._label}-{self._count}-{attempt}"
            wish = {collection.removesuffix("s"): {**body, "name": name}}
            answer = await self._api.ask(what, "POST", f"/{collection}", wish)
            item = self._ledger.created(collection, name, answer, sizes, source, parent)
            if item is not None and item.id is not None:
                self._mine.append(item)
                return item
            if answer.verdict is not Verdict.UNKNOWN or await _sleep(stop, 0.5 * 2**attempt):
                break
        return None

    async def _is_made(self, stop: asyncio.Event, item: Item) -> bool:
        """Watch a new volume become available, for a while."""
        for _ in range(int(_WATCH_SECONDS / 0.5)):
            answer = await self._api.ask("show", "GET", f"/volumes/{item.id}")
            shown = answer.body.get("volume")
            if isinstance(shown, dict) and shown["status"] != "creating":
                return bool(shown["status"] == "available")
            if answer.verdict is Verdict.REFUSED or await _sleep(stop, 0.5):
                return False
        return False

    def _write(self, item: Item) -> None:
        """Write a block into a volume of which there is no copy yet."""
        data, offset = self._chance.randbytes(BLOCK), self._chance.randrange(GIB // BLOCK) * BLOCK
        try:
            descriptor = os.open(self._file_of(str(item.id)), os.O_WRONLY | os.O_CLOEXEC)
        except OSError:  # the pool is not mounted at this moment: nothing is written
            return
        item.blocks = None
        try:
            os.pwrite(descriptor, data, offset)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        item.blocks = {offset: hashlib.sha256(data).hexdigest()}

    async def _extend(self, stop: asyncio.Event, volume: Item) -> None:
        size = max(volume.sizes) + 1
        for attempt in range(_ATTEMPTS):
            action = {"os-extend": {"new_size": size}}
            answer = await self._api.ask("extend", "POST", f"/volumes/{volume.id}/action", action)
            self._ledger.extended(volume, answer, size)
            if answer.verdict is not Verdict.UNKNOWN or await _sleep(stop, 0.5 * 2**attempt):
                return

    async def _delete(self, stop: asyncio.Event, item: Item) -> None:
        for attempt in range(_ATTEMPTS):
            answer = await self._api.ask("delete", "DELETE", f"/{item.collection}/{item.id}")
            self._ledger.deleted(item, answer)
            if answer.verdict is not Verdict.UNKNOWN or await _sleep(stop, 0.5 * 2**attempt):
                return

    async def _look(self, item: Item) -> None:
        if self._chance.random() < 0.5:
            await self._api.ask("show", "GET", f"/{item.collection}/{item.id}")
        else:
            await self._api.ask("list", "GET", f"/{item.collection}/detail?limit=100")


async def _sleep(stop: asyncio.Event, seconds: float) -> bool:
    """Pause, or until asked to stop; whether that was asked."""
    try:
        await asyncio.wait_for(stop.wait(), seconds)
    except TimeoutError:
        return False
    return True
