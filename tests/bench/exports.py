"""The phases that use volumes: attach and detach through the API, and bytes through each export.

One volume for each way, written whole beforehand, and one more that nobody attaches, which is the plain file.
"""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path
from typing import Any, Final

from tests.bench.meter import Meter
from tests.bench.statistics import spread_of
from tests.bench.target import BURST_POLL_SECONDS, GONE, PATIENCE_SECONDS, Target
from tests.bench.transfer import VOLUME_BYTES, Transfer, TransferError, transfers
from tests.bench.ways import CONNECTOR, WAYS, Tool, Way, plain

_PIECE: Final = 1 << 20


def exports(target: Target, meter: Meter, tag: str, count: int, rounds: int, seconds: float) -> list[Transfer]:
    """`count` attachments by each way, then what can be moved through one. Raises TransferError."""
    if target.files is None:
        raise TransferError("the files of the volumes are not within reach, so there is no plain file to compare with")
    _wait_for_pools(target)
    volumes = {way: _volume(target, way, tag) for way in WAYS}
    reference = _volume(target, WAYS[0], f"{tag}plain-")
    for way, volume_id in volumes.items():
        attach(target, meter, way, volume_id, count)
    with tempfile.TemporaryDirectory(prefix="bench-keys-") as keys:
        for way, volume_id in [*volumes.items(), (WAYS[0], reference)]:
            _fill(target.files.parents[1] / way.backend / "volumes" / f"volume-{volume_id}")
        open_now = {way: _attached(target, volume_id) for way, volume_id in volumes.items()}
        opened = [way.opened(body["connection_info"], Path(keys)) for way, body in open_now.items()]
        file = target.files / f"volume-{reference}"
        base = {tool: plain("plain file", tool, file) for tool in Tool}
        found = transfers(base, opened, rounds, seconds)
    for body in open_now.values():
        target.client.call("DELETE", f"/attachments/{body['id']}")
    for volume_id in (*volumes.values(), reference):
        target.delete("volume", [volume_id])
        target.until("volume", volume_id, GONE)
    return found


def attach(target: Target, meter: Meter, way: Way, volume_id: str, count: int) -> None:
    """`count` times: attach until the answer with how to connect, tell that it is attached, detach until the answer."""
    client, body = target.client, _body(volume_id)
    opening: list[float] = []
    completing: list[float] = []
    closing: list[float] = []
    with meter.phase(f"attach, complete, detach by {way.name}") as phase:
        for _ in range(count):
            began = time.perf_counter()
            answer = client.call("POST", "/attachments", body)
            answered = time.perf_counter()
            if not answer.good:
                phase.missed += 1
                continue
            attachment = f"/attachments/{answer.json()['attachment']['id']}"
            told = time.perf_counter()
            complete = client.call("POST", f"{attachment}/action", {"os-complete": {}})
            completed = time.perf_counter()
            gone = client.call("DELETE", attachment)
            ended = time.perf_counter()
            if complete.good and gone.good:
                phase.count += 1
                opening.append((answered - began) * 1000)
                completing.append((completed - told) * 1000)
                closing.append((ended - completed) * 1000)
            else:
                phase.missed += 1
        phase.latency_ms = opening
        phase.note = (
            f"attach {_percentiles(opening)}, complete {_percentiles(completing)}, detach {_percentiles(closing)}"
        )


def _percentiles(readings: list[float]) -> str:
    spread = spread_of(readings)
    return "-" if spread is None else f"p50 {spread.p50:.1f} p99 {spread.p99:.1f}"


def _body(volume_id: str) -> dict[str, Any]:
    return {"attachment": {"volume_uuid": volume_id, "connector": CONNECTOR}}


def _attached(target: Target, volume_id: str) -> dict[str, Any]:
    answer = target.client.call("POST", "/attachments", _body(volume_id))
    if not answer.good:
        raise TransferError(f"volume {volume_id} could not be attached: {answer.body.decode(errors='replace')[:200]}")
    found: dict[str, Any] = answer.json()["attachment"]
    return found


def _wait_for_pools(target: Target) -> None:
    """An instance is up when one backend is; the other may report a little later."""
    wanted, deadline = {way.backend for way in WAYS}, time.perf_counter() + PATIENCE_SECONDS
    while True:
        answer = target.client.call("GET", "/scheduler-stats/get_pools")
        pools = {pool["name"].rpartition("#")[2] for pool in answer.json()["pools"]} if answer.good else set()
        if wanted <= pools:
            return
        if time.perf_counter() > deadline:
            raise TransferError(f"no pool of backend {', '.join(wanted - pools)} reported")
        time.sleep(BURST_POLL_SECONDS)


def _volume(target: Target, way: Way, tag: str) -> str:
    body = {"volume_type": {"name": way.type_name, "extra_specs": way.extra_specs}}
    # Of the second volume of a way the type is there already, which is no failure.
    if not any(kind["name"] == way.type_name for kind in target.client.call("GET", "/types").json()["volume_types"]):
        target.client.call("POST", "/types", body)
    volume_id = target.create_volume(f"{tag}{way.type_name}", VOLUME_BYTES >> 30, volume_type=way.type_name)
    if volume_id is None or not target.until("volume", volume_id):
        raise TransferError(f"no volume of type {way.type_name} could be made")
    return volume_id


def _fill(file: Path) -> None:
    """Write all of it, so that no read meets a hole, and sync."""
    piece = os.urandom(_PIECE)
    descriptor = os.open(file, os.O_WRONLY | os.O_CLOEXEC)
    try:
        for offset in range(0, VOLUME_BYTES, _PIECE):
            os.pwrite(descriptor, piece, offset)
        os.fdatasync(descriptor)
    finally:
        os.close(descriptor)
