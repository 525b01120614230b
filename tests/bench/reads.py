"""The phases that read: a page of volumes, and one volume after the other, as fast as the clients get answers."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from tests.bench.meter import Meter
from tests.bench.target import Target

PAGE = "/volumes/detail?limit=100"


def reads(target: Target, meter: Meter, volumes: Sequence[str], clients: Sequence[int], seconds: float) -> None:
    """For each number of clients: the first page of 100 volumes in detail, then single volumes at random."""
    page = target.client.call("GET", PAGE)
    rows = len(page.json()["volumes"]) if page.good else 0
    note = f"{rows} rows, {len(page.body) // 1024} KiB; {len(volumes)} volumes"
    for number in clients:
        _measure(target, meter, f"GET {PAGE}, {number} clients", lambda _: PAGE, number, seconds, note)
    for number in clients:
        _measure(
            target,
            meter,
            f"GET /volumes/ID, {number} clients",
            lambda chance: f"/volumes/{chance.choice(volumes)}",
            number,
            seconds,
            f"{len(volumes)} volumes",
        )


def _measure(
    target: Target,
    meter: Meter,
    name: str,
    path: Callable[[random.Random], str],
    clients: int,
    seconds: float,
    note: str,
) -> None:
    def work(seed: int) -> tuple[list[float], int]:
        chance = random.Random(seed)
        readings: list[float] = []
        missed = 0
        deadline = time.perf_counter() + seconds
        while (began := time.perf_counter()) < deadline:
            if target.client.call("GET", path(chance)).good:
                readings.append((time.perf_counter() - began) * 1000)
            else:
                missed += 1
        return readings, missed

    with meter.phase(name) as phase, ThreadPoolExecutor(clients) as crew:
        for readings, missed in crew.map(work, range(clients)):
            phase.latency_ms += readings
            phase.missed += missed
        phase.count = len(phase.latency_ms)
        phase.note = note
