"""What a phase of the benchmark did and what it took: readings, failed requests, CPU by process. Knows no API."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from tests.bench import processes
from tests.bench.client import Client
from tests.bench.statistics import Spread, milliseconds_each, per_second, spread_of


@dataclass(frozen=True, slots=True)
class CpuUse:
    """CPU seconds during a phase: of the service's processes by name, of this client, of all else, and there were."""

    by_process: dict[str, float]
    client: float
    others: float
    available: float

    @property
    def service(self) -> float:
        """All processes of the service."""
        return sum(self.by_process.values())


@dataclass(frozen=True, slots=True)
class PhaseResult:
    """A phase. `count` operations ended well and `missed` did not; `failed` are requests, not operations."""

    name: str
    count: int
    missed: int
    seconds: float
    requests: int
    failed: dict[str, int]
    latency_ms: Spread | None
    accepted_ms: Spread | None
    per_second: float | None
    cpu: CpuUse
    cpu_ms_each: float | None
    note: str


@dataclass(slots=True)
class Phase:
    """What the phase's code fills in. `afterwards` is called when all is measured, to
    count what came of it."""

    latency_ms: list[float] = field(default_factory=list)
    accepted_ms: list[float] = field(default_factory=list)
    count: int = 0
    missed: int = 0
    note: str = ""
    afterwards: Callable[[], None] | None = None

    def reached(self, since: float, good: bool) -> None:
        """An operation that began at `since` (perf_counter) has ended, well or not."""
        if good:
            self.latency_ms.append((time.perf_counter() - since) * 1000)
            self.count += 1
        else:
            self.missed += 1


class Meter:
    """Measures phases one after the other and keeps their results."""

    def __init__(self, client: Client, find: processes.Finder) -> None:
        self._client = client
        self._find = find
        self.results: list[PhaseResult] = []

    @contextmanager
    def phase(self, name: str) -> Iterator[Phase]:
        """The body is the phase. A body that raises leaves no result."""
        phase = Phase()
        requests, failures = self._client.counts()
        cpu = processes.cpu_seconds(self._find())
        busy, total = processes.machine_seconds()
        own, began = time.process_time(), time.perf_counter()
        yield phase
        seconds = time.perf_counter() - began
        own = time.process_time() - own
        busy_now, total_now = processes.machine_seconds()
        by_process = {
            process: used - cpu.get(process, 0.0)
            for process, used in processes.cpu_seconds(self._find()).items()
            if used > cpu.get(process, 0.0)
        }
        others = max(0.0, busy_now - busy - own - sum(by_process.values()))
        use = CpuUse(by_process, own, others, total_now - total)
        requests_now, failures_now = self._client.counts()
        if phase.afterwards is not None:
            phase.afterwards()
        self.results.append(
            PhaseResult(
                name=name,
                count=phase.count,
                missed=phase.missed,
                seconds=seconds,
                requests=requests_now - requests,
                failed=dict(failures_now - failures),
                latency_ms=spread_of(phase.latency_ms),
                accepted_ms=spread_of(phase.accepted_ms),
                per_second=per_second(phase.count, seconds),
                cpu=use,
                cpu_ms_each=milliseconds_each(use.service, phase.count) if by_process else None,
                note=phase.note,
            )
        )
