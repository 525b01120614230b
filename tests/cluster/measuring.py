"""What a client that asks all the time sees, and figures for docs/reliability.md (printed, never asserted)."""

from __future__ import annotations

import json
import os
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Self

import httpx

from tests.integration.clients import Cloud


def note(name: str, seconds: float) -> None:
    """Print a figure, and add it to the file that PUMICE_CLUSTER_FIGURES names, if any."""
    print(f"figure: {name}: {seconds:.1f} s")
    if path := os.environ.get("PUMICE_CLUSTER_FIGURES"):
        with Path(path).open("a", encoding="utf-8") as file:
            file.write(json.dumps({"name": name, "seconds": round(seconds, 1)}) + "\n")


class Poller:
    """Within it, a client lists volumes every 50 ms. `pause` is the longest time between two good answers; `wrong` what
    it was answered that was neither 200 nor a refused connection nor a 5xx."""

    def __init__(self, cloud: Cloud) -> None:
        self._url = f"{cloud.service.endpoint}/v3/{cloud.project_id}/volumes"
        self._headers = {"X-Auth-Token": cloud.token}
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.pause = 0.0
        self.good = self.failed = 0
        self.wrong: set[int] = set()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end.set()
        self._thread.join()

    def _run(self) -> None:
        last = time.monotonic()
        with httpx.Client(timeout=30, trust_env=False) as client:
            while not self._end.wait(0.05):
                status = self._ask(client)
                if status == 200:
                    self.good += 1
                    self.pause, last = max(self.pause, time.monotonic() - last), time.monotonic()
                elif status is None or status >= 500:
                    self.failed += 1
                else:
                    self.wrong.add(status)

    def _ask(self, client: httpx.Client) -> int | None:
        try:
            return client.get(self._url, headers=self._headers).status_code
        except httpx.HTTPError:
            return None
