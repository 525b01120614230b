"""The phases that make and delete volumes: one client one at a time, then many clients at once."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

from tests.bench.meter import Meter, Phase
from tests.bench.target import GONE, Target

POPULATION = "bench-population-"


def serial(target: Target, meter: Meter, count: int, tag: str) -> None:
    """One client: create a volume, poll it until it is available, and so on; then delete them in the same way."""
    made: list[str] = []
    with meter.phase("create → available, 1 client") as phase:
        for number in range(count):
            began = time.perf_counter()
            volume_id = target.create_volume(f"{tag}serial-{number}")
            phase.accepted_ms.append((time.perf_counter() - began) * 1000)
            phase.reached(began, volume_id is not None and target.until("volume", volume_id))
            if volume_id is not None:
                made.append(volume_id)
    with meter.phase("delete → gone, 1 client") as phase:
        for volume_id in made:
            began = time.perf_counter()
            target.client.call("DELETE", f"/volumes/{volume_id}")
            phase.accepted_ms.append((time.perf_counter() - began) * 1000)
            phase.reached(began, target.until("volume", volume_id, GONE))


def burst(target: Target, meter: Meter, count: int, clients: int, tag: str) -> None:
    """Many clients create; the time ends when the last volume has left `creating`. Deletes likewise."""
    name = f"{tag}burst-"
    with meter.phase(f"create → available, {clients} clients") as phase:
        made = _create(target, phase, name, count, clients)
    with meter.phase(f"delete → gone, {clients} clients") as phase:
        target.delete("volume", made, clients)
        target.until_none("volume", "deleting", made)

        def count_left() -> None:
            phase.missed = sum(len(ids) for ids in target.by_status("volume", name).values())
            phase.count = len(made) - phase.missed

        phase.afterwards = count_left


def populate(target: Target, meter: Meter, wanted: int, clients: int) -> list[str]:
    """Volumes until there are `wanted` of earlier runs and this one; the ids of those that are available."""
    there = len(target.by_status("volume", POPULATION).get("available", []))
    if there < wanted:
        with meter.phase(f"create {wanted - there} → available, {clients} clients") as phase:
            _create(target, phase, POPULATION, wanted - there, clients)
    return target.by_status("volume", POPULATION).get("available", [])


def _create(target: Target, phase: Phase, name: str, count: int, clients: int) -> list[str]:
    def one(number: int) -> str | None:
        asked = time.perf_counter()
        volume_id = target.create_volume(f"{name}{number}")
        phase.accepted_ms.append((time.perf_counter() - asked) * 1000)
        return volume_id

    with ThreadPoolExecutor(clients) as crew:
        made = [volume_id for volume_id in crew.map(one, range(count)) if volume_id is not None]
    target.until_none("volume", "creating", made)

    def count_available() -> None:
        phase.count = len(set(made).intersection(target.by_status("volume", name).get("available", [])))
        phase.missed = count - phase.count

    phase.afterwards = count_available
    return made
