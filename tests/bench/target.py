"""What is measured, and how volumes are made there: the few API calls that all phases are composed of."""

from __future__ import annotations

import time
from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from tests.bench.client import Answer, Client
from tests.bench.processes import Finder

POLL_SECONDS = 0.01
BURST_POLL_SECONDS = 0.05
PATIENCE_SECONDS = 300.0
GONE = "gone"


@dataclass(frozen=True, slots=True)
class Target:
    """A service. `find` finds its processes. `files` is where the files of its volumes are, when they can be written
    from here; `volume_type` is asked for in every create."""

    label: str
    client: Client
    find: Finder
    volume_type: str | None = None
    files: Path | None = None

    def create_volume(self, name: str, size_gib: int = 1, **source: str) -> str | None:
        """Ask for a volume (`source_volid` or `snapshot_id` may say of what); its id, or None when refused."""
        body: dict[str, object] = {"size": size_gib, "name": name, **source}
        if self.volume_type is not None:
            body["volume_type"] = self.volume_type
        return _made("volume", self.client.call("POST", "/volumes", {"volume": body}))

    def create_snapshot(self, volume_id: str, name: str) -> str | None:
        """Ask for a snapshot; its id, or None when refused."""
        body = {"volume_id": volume_id, "name": name}
        return _made("snapshot", self.client.call("POST", "/snapshots", {"snapshot": body}))

    def delete(self, kind: str, ids: Collection[str], clients: int = 1) -> None:
        """Ask for the deletion of these, `kind` being `volume` or `snapshot`."""
        with ThreadPoolExecutor(clients) as crew:
            list(crew.map(lambda one: self.client.call("DELETE", f"/{kind}s/{one}"), ids))

    def until(self, kind: str, object_id: str, wanted: str = "available") -> bool:
        """Poll one every 10 ms until it has the wanted status (`GONE`: until it is no more); False: it will not."""
        deadline = time.perf_counter() + PATIENCE_SECONDS
        while time.perf_counter() < deadline:
            answer = self.client.call("GET", f"/{kind}s/{object_id}", may_be_missing=True)
            if answer.status == 404:
                return wanted == GONE
            status = answer.json()[kind]["status"] if answer.good else ""
            if status == wanted:
                return True
            if status.startswith("error"):
                return False
            time.sleep(POLL_SECONDS)
        return False

    def until_none(self, kind: str, status: str, ids: Collection[str]) -> None:
        """Poll until none of `ids` is in `status`: one poller for all, so that the polling is not the load."""
        deadline, waiting = time.perf_counter() + PATIENCE_SECONDS, set(ids)
        while time.perf_counter() < deadline:
            answer = self.client.call("GET", f"/{kind}s?status={status}&limit=1000")
            if answer.good and not any(row["id"] in waiting for row in answer.json()[f"{kind}s"]):
                return
            time.sleep(BURST_POLL_SECONDS)

    def by_status(self, kind: str, prefix: str) -> dict[str, list[str]]:
        """The ids by status of all whose names begin with `prefix`."""
        found: dict[str, list[str]] = {}
        marker = ""
        while True:
            answer = self.client.call("GET", f"/{kind}s/detail?limit=500{marker}")
            rows = answer.json()[f"{kind}s"] if answer.good else []
            for row in rows:
                if (row["name"] or "").startswith(prefix):
                    found.setdefault(row["status"], []).append(row["id"])
            if len(rows) < 500:
                return found
            marker = f"&marker={rows[-1]['id']}"


def _made(kind: str, answer: Answer) -> str | None:
    return str(answer.json()[kind]["id"]) if answer.good else None
