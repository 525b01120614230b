"""What a tool moves through an opened volume in some seconds: 4 KiB at random places, 1 MiB one after the other.

fio keeps `depth` requests under way all the time; qemu-io asks for `depth` at once and for more when all are answered.
"""

from __future__ import annotations

import itertools
import json
import os
import random
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from tests.bench.statistics import percentile
from tests.bench.ways import Opened, Tool

VOLUME_BYTES: Final = 1 << 30
_MIB: Final = 1 << 20
_PATIENCE_SECONDS: Final = 120.0
# qemu-io takes a new buffer for each request; without this, most of its time goes into asking the kernel for memory.
_KEEP_MEMORY: Final = {"MALLOC_MMAP_THRESHOLD_": str(1 << 30), "MALLOC_TRIM_THRESHOLD_": str(1 << 30)}


class TransferError(Exception):
    """A tool could not reach the volume; what it said."""


@dataclass(frozen=True, slots=True)
class Workload:
    """`depth` requests of `block_bytes` are under way at once; `batches` times `depth` are one run of qemu-io."""

    name: str
    fio: str
    block_bytes: int
    depth: int
    batches: int

    @property
    def writes(self) -> bool:
        """Whether it writes."""
        return "write" in self.fio

    @property
    def is_random(self) -> bool:
        """Whether places are drawn at random."""
        return self.fio.startswith("rand")

    @property
    def unit(self) -> str:
        """Of its rates."""
        return "IOPS" if self.is_random else "MiB/s"


WORKLOADS: Final = (
    Workload("4 KiB random read", "randread", 4096, 32, 300),
    Workload("4 KiB random write", "randwrite", 4096, 32, 300),
    Workload("1 MiB sequential read", "read", _MIB, 4, 100),
    Workload("1 MiB sequential write", "write", _MIB, 4, 100),
)


@dataclass(frozen=True, slots=True)
class Transfer:
    """Rates of one way under one workload, one a round. `ratios` are to the plain file under the same tool in the same
    round."""

    way: str
    tool: str
    workload: str
    unit: str
    depth: int
    rates: Sequence[float]
    ratios: Sequence[float]

    @property
    def rate(self) -> float:
        """The median rate."""
        return percentile(self.rates, 0.5)

    @property
    def ratio(self) -> float:
        """The median ratio."""
        return percentile(self.ratios, 0.5)


def transfers(plain: Mapping[Tool, Opened], ways: Sequence[Opened], rounds: int, seconds: float) -> list[Transfer]:
    """Every way and, for each tool, the plain file under every workload, in turn, `rounds` times over. Raises
    TransferError."""
    everything = [*plain.values(), *ways]
    rates: dict[tuple[Opened, Workload], list[float]] = {
        (opened, workload): [] for opened in everything for workload in WORKLOADS
    }
    for number in range(rounds):
        for workload in WORKLOADS:
            # Another goes first in each round, so that none is always the one that follows a certain other.
            first = number % len(everything)
            for opened in everything[first:] + everything[:first]:
                rates[opened, workload].append(_rate(opened, workload, seconds))
    found = []
    for workload, opened in itertools.product(WORKLOADS, everything):
        mine, base = rates[opened, workload], rates[plain[opened.tool], workload]
        found.append(
            Transfer(
                way=opened.name,
                tool=opened.tool,
                workload=workload.name,
                unit=workload.unit,
                depth=workload.depth,
                rates=mine,
                ratios=[rate / other for rate, other in zip(mine, base, strict=True)],
            )
        )
    return found


def _rate(opened: Opened, workload: Workload, seconds: float) -> float:
    per_second = (_fio if opened.tool is Tool.FIO else _qemu_io)(opened, workload, seconds)
    return per_second if workload.is_random else per_second * workload.block_bytes / _MIB


def _fio(opened: Opened, workload: Workload, seconds: float) -> float:
    command = [
        *("fio", "--name=bench", "--thread", "--output-format=json", "--randrepeat=0", "--norandommap"),
        *(f"--rw={workload.fio}", f"--bs={workload.block_bytes}", f"--iodepth={workload.depth}"),
        *("--time_based", f"--runtime={round(seconds * 1000)}ms", f"--size={VOLUME_BYTES}"),
        *opened.arguments,
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=_PATIENCE_SECONDS, check=False)
    if done.returncode != 0:
        raise TransferError(f"{opened.name}: fio ended with {done.returncode}: {_end(done.stderr or done.stdout)}")
    # Remarks of an engine may stand before the JSON.
    job: dict[str, Any] = json.loads(done.stdout[done.stdout.index("{") :])["jobs"][0]
    return float(job["write" if workload.writes else "read"]["iops"])


def _qemu_io(opened: Opened, workload: Workload, seconds: float) -> float:
    places = _places(workload)
    took, count = 0.0, 0
    while took < seconds:
        took += _one_run(opened, workload, places)
        count += workload.batches * workload.depth
    return count / took


def _one_run(opened: Opened, workload: Workload, places: Iterator[int]) -> float:
    """Seconds between the answers to a read before all batches and to one behind them."""
    verb = "aio_write" if workload.writes else "aio_read"
    orders = ["read 0 4096"]
    for _ in range(workload.batches):
        orders += [f"{verb} -q {next(places)} {workload.block_bytes}" for _ in range(workload.depth)]
        orders.append("aio_flush")
    orders.append("read 0 4096")
    spoken = [part for order in orders for part in ("-c", order)]
    # By lines, so that the first answer is told when it is there.
    command = ["stdbuf", "-oL", "qemu-io", *opened.arguments[:-1], *spoken, opened.arguments[-1]]
    environment = {**os.environ, **_KEEP_MEMORY}
    said: list[str] = []
    answered: list[float] = []
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if " ops; " in line:
                answered.append(time.perf_counter())
            said.append(line)
    text = "".join(said)
    if process.returncode != 0 or len(answered) != 2 or "failed" in text:
        raise TransferError(f"{opened.name}: qemu-io ended with {process.returncode}: {_end(text)}")
    return answered[1] - answered[0]


def _places(workload: Workload) -> Iterator[int]:
    blocks = VOLUME_BYTES // workload.block_bytes
    numbers = itertools.cycle(range(blocks))
    while True:
        yield (random.randrange(blocks) if workload.is_random else next(numbers)) * workload.block_bytes


def _end(text: str) -> str:
    return text.strip()[-400:]
