"""The phases that copy a large volume: snapshots, clones of the volume, volumes from a snapshot.

Into a volume whose file is within reach, data is written first, in pieces all over it: a file system that shares
extents has as many extents to share then as a used volume would give it.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

from tests.bench.meter import Meter
from tests.bench.target import GONE, Target

_PIECE = 1 << 20


def copies(target: Target, meter: Meter, size_gib: int, data_mib: int, count: int, tag: str) -> None:
    """`count` snapshots and clones of one volume of `size_gib`, each polled until it is available, and then deleted."""
    source = target.create_volume(f"{tag}source", size_gib)
    if source is None or not target.until("volume", source):
        return
    written = _write(target.files, source, size_gib, data_mib)
    note = f"{written} MiB of data in it" if written else "no data in it"
    snapshots = _make(
        target,
        meter,
        f"snapshot of {size_gib} GiB → available",
        "snapshot",
        lambda number: target.create_snapshot(source, f"{tag}snapshot-{number}"),
        count,
        note,
    )
    clones = _make(
        target,
        meter,
        f"clone of {size_gib} GiB → available",
        "volume",
        lambda number: target.create_volume(f"{tag}clone-{number}", size_gib, source_volid=source),
        count,
        note,
    )
    if snapshots:
        clones += _make(
            target,
            meter,
            f"volume from snapshot of {size_gib} GiB → available",
            "volume",
            lambda number: target.create_volume(f"{tag}from-{number}", size_gib, snapshot_id=snapshots[0]),
            count,
            note,
        )
    _remove(target, meter, f"delete of a {size_gib} GiB clone → gone", "volume", clones)
    _remove(target, meter, "delete of a snapshot → gone", "snapshot", snapshots)
    target.delete("volume", [source])
    target.until("volume", source, GONE)


def _make(
    target: Target,
    meter: Meter,
    name: str,
    kind: str,
    ask: Callable[[int], str | None],
    count: int,
    note: str,
) -> list[str]:
    made: list[str] = []
    with meter.phase(name) as phase:
        phase.note = note
        for number in range(count):
            began = time.perf_counter()
            object_id = ask(number)
            phase.accepted_ms.append((time.perf_counter() - began) * 1000)
            phase.reached(began, object_id is not None and target.until(kind, object_id))
            if object_id is not None:
                made.append(object_id)
    return made


def _remove(target: Target, meter: Meter, name: str, kind: str, ids: list[str]) -> None:
    with meter.phase(name) as phase:
        for object_id in ids:
            began = time.perf_counter()
            target.client.call("DELETE", f"/{kind}s/{object_id}")
            phase.reached(began, target.until(kind, object_id, GONE))


def _write(files: Path | None, volume_id: str, size_gib: int, data_mib: int) -> int:
    """Write `data_mib` MiB of random data, evenly spread, and sync; returns the MiB written (0: no file in reach)."""
    if files is None or data_mib == 0:
        return 0
    piece = os.urandom(_PIECE)
    distance = max(_PIECE, (size_gib << 30) // data_mib)
    descriptor = os.open(files / f"volume-{volume_id}", os.O_WRONLY | os.O_CLOEXEC)
    try:
        for number in range(data_mib):
            os.pwrite(descriptor, piece, number * distance // 4096 * 4096)
        os.fdatasync(descriptor)
    finally:
        os.close(descriptor)
    return data_mib
