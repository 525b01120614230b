"""The table for people and the JSON for programs, of one run. Measures nothing."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from tests.bench.meter import PhaseResult
from tests.bench.processes import Memory
from tests.bench.transfer import Transfer

_COLUMNS = ("p50 ms", "p95 ms", "per s", "CPU ms", "missed", "others")


@dataclass(frozen=True, slots=True)
class Report:
    """A run: its phases, and the memory of the service's processes before the first and after the last."""

    label: str
    options: dict[str, object]
    phases: Sequence[PhaseResult]
    memory_before: dict[str, Memory]
    memory_after: dict[str, Memory]
    requests: int
    failed: dict[str, int]
    transfers: Sequence[Transfer] = ()

    def text(self) -> str:
        """The tables, as they are printed."""
        return "\n".join(self._lines())

    def write(self, path: Path) -> None:
        """The JSON, in `path`."""
        content = {"date": datetime.now(UTC).isoformat(timespec="seconds"), "machine": machine(), **asdict(self)}
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content, indent=1, default=str) + "\n", encoding="utf-8")

    def _lines(self) -> Iterator[str]:
        width = max((len(phase.name) for phase in self.phases), default=0)
        yield f"{self.label}: {machine()}"
        yield ""
        yield " " * width + "".join(f"{column:>10}" for column in _COLUMNS)
        for phase in self.phases:
            yield f"{phase.name:{width}}" + "".join(f"{cell:>10}" for cell in _cells(phase)) + _remarks(phase)
        yield ""
        yield "CPU ms: of all processes of the service, for one operation. others: CPU that was neither the service's"
        yield "nor the client's, in percent of all there is; where it is high, the machine was disturbed."
        yield f"{self.requests} requests, {sum(self.failed.values())} failed"
        yield from (f"  {count} x {what}" for what, count in self.failed.items())
        if self.transfers:
            yield from self._transfers()
        if self.memory_after:
            yield from self._memory()

    def _transfers(self) -> Iterator[str]:
        width = max(len(transfer.way) for transfer in self.transfers)
        yield ""
        yield "ratio: to the plain file under the same tool in the same round; medians, and the least and the most"
        for transfer in self.transfers:
            yield (
                f"{transfer.workload:24}{f'depth {transfer.depth}':10}{transfer.way:{width}}  {transfer.tool:9}"
                f"{transfer.rate:>9.0f} {transfer.unit:6}{transfer.ratio:>6.2f}"
                f"  ({min(transfer.ratios):.2f} to {max(transfer.ratios):.2f})"
            )

    def _memory(self) -> Iterator[str]:
        width = max(len(name) for name in self.memory_after)
        yield ""
        yield f"{'memory':{width}}{'processes':>11}{'PSS MiB':>9}{'before':>9}"
        for name, after in sorted(self.memory_after.items(), key=lambda item: -item[1].pss_mib):
            before = self.memory_before.get(name)
            yield (
                f"{name:{width}}{after.processes:>11}{after.pss_mib:>9.0f}"
                f"{f'{before.pss_mib:.0f}' if before else '-':>9}"
            )
        total = sum(memory.pss_mib for memory in self.memory_after.values())
        total_before = sum(memory.pss_mib for memory in self.memory_before.values())
        count = sum(memory.processes for memory in self.memory_after.values())
        yield f"{'in all':{width}}{count:>11}{total:>9.0f}{total_before:>9.0f}"


def machine() -> str:
    """What it was measured on."""
    memory_gib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / (1 << 30)
    cpus = len(os.sched_getaffinity(0))
    system = f"{platform.system()} {platform.release()}"
    return f"{cpus} CPUs, {memory_gib:.0f} GiB, {system}, Python {platform.python_version()}"


def _cells(phase: PhaseResult) -> Iterator[str]:
    yield f"{phase.latency_ms.p50:.1f}" if phase.latency_ms else "-"
    yield f"{phase.latency_ms.p95:.1f}" if phase.latency_ms else "-"
    yield f"{phase.per_second:.1f}" if phase.per_second is not None else "-"
    yield f"{phase.cpu_ms_each:.2f}" if phase.cpu_ms_each is not None else "-"
    yield str(phase.missed)
    yield f"{phase.cpu.others / phase.cpu.available:.0%}" if phase.cpu.available else "-"


def _remarks(phase: PhaseResult) -> str:
    return f"  {phase.note}" if phase.note else ""
