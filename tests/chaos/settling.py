"""Waiting until the service is at rest and works: nothing under way, everything there, a new volume can be made."""

from __future__ import annotations

import asyncio
import time

from sqlalchemy.exc import SQLAlchemyError

from tests.chaos.ledger import Item, Ledger, Verdict
from tests.chaos.place import Place
from tests.chaos.users import Api

PROMISED_SECONDS = 60.0
_PATIENCE_SECONDS = 150.0
_LOOK_SECONDS = 0.4
_SERVICES = {"cinder-volume", "cinder-scheduler"}


class UnsettledError(Exception):
    """It does not settle; the message says what was in the way at last."""


class Settling:
    """`volume` is a probe's current item, made, watched and deleted through the API like any other."""

    def __init__(self, place: Place, api: Api, ledger: Ledger) -> None:
        self._place, self._api, self._ledger = place, api, ledger
        self._probes = 0

    async def wait(self, since: float) -> float:
        """Seconds from `since` (monotonic) until all is settled. Raises UnsettledError."""
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while True:
            because = await self._unsettled() or await self._cannot_create(deadline) or await self._unsettled()
            if because is None:
                return time.monotonic() - since
            if time.monotonic() > deadline:
                raise UnsettledError(f"not settled {time.monotonic() - since:.0f} s after the fault: {because}")
            await asyncio.sleep(_LOOK_SECONDS)

    async def _unsettled(self) -> str | None:
        """What is not at rest or not there; None when all is."""
        missing = await asyncio.to_thread(self._place.targets.missing)
        if missing:
            return f"not running: {', '.join(missing)}"
        if not self._place.supervisor()[1]:
            return "`pumice up` does not say that it is ready"
        try:
            live = await asyncio.to_thread(self._place.live_operations)
        except SQLAlchemyError as error:
            return f"the database does not answer: {error}"
        if live:
            return f"{len(live)} operations are live, such as {live[0]}"
        services = await self._api.quietly("GET", "/os-services")
        rows = services.body.get("services")
        if services.verdict is not Verdict.ACKNOWLEDGED or not isinstance(rows, list):
            return f"GET /os-services: {services.label}"
        if {row["binary"] for row in rows if row["state"] == "up"} != _SERVICES or len(rows) != len(_SERVICES):
            return f"services: {[(row['binary'], row['state']) for row in rows]}"
        for collection in ("volumes", "snapshots"):
            items = await self._api.every(collection)
            if items is None:
                return f"GET /{collection}/detail does not answer"
            for item in items:
                if not str(item["status"]).startswith(("available", "error")):
                    return f"{collection} {item['id']} is {item['status']}"
        return None

    async def _cannot_create(self, deadline: float) -> str | None:
        """Make a volume and delete it; what does not work, or None."""
        self._probes += 1
        name = f"probe-{self._probes}"
        answer = await self._api.ask("create", "POST", "/volumes", {"volume": {"size": 1, "name": name}})
        item = self._ledger.created("volumes", name, answer, {1}, None, None)
        if item is None or item.id is None:
            return f"POST /volumes: {answer.label}"
        if (status := await self._until(item, "available", deadline)) != "available":
            return f"a new volume is {status}"
        answer = await self._api.ask("delete", "DELETE", f"/volumes/{item.id}")
        self._ledger.deleted(item, answer)
        if answer.verdict is not Verdict.ACKNOWLEDGED:
            return f"DELETE of a new volume: {answer.label}"
        status = await self._until(item, "gone", deadline)
        return None if status == "gone" else f"a deleted volume is {status}"

    async def _until(self, item: Item, wanted: str, deadline: float) -> str:
        status = "unknown"
        while time.monotonic() < deadline:
            answer = await self._api.quietly("GET", f"/volumes/{item.id}")
            shown = answer.body.get("volume")
            if isinstance(shown, dict):
                status = str(shown["status"])
            elif answer.status == 404:
                status = "gone"
            if status in (wanted, "error", "error_deleting", "gone"):
                break
            await asyncio.sleep(0.1)
        return status
