"""The report of a run: figures by kind of fault, requests by answer, what was broken. Markdown for people, JSON."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from dataclasses import asdict
from pathlib import Path

from tests.bench.statistics import percentile
from tests.chaos.rounds import CLIENTS, Round, Run

_SEVERAL = "several at once"


def write(run: Run, directory: Path, *, database: str, seed: int) -> str:
    """Write `chaos.md` and `chaos.json` into `directory`; return the Markdown."""
    directory.mkdir(parents=True, exist_ok=True)
    text = markdown(run, database=database, seed=seed)
    (directory / "chaos.md").write_text(text, encoding="utf-8")
    record = {
        "database": database,
        "seed": seed,
        "clients": CLIENTS,
        "seconds": run.seconds,
        "rounds": [asdict(one) for one in run.rounds],
        "requests": [
            {"request": what, "answer": label, "count": count}
            for (what, label), count in sorted(run.ledger.requests.items())
        ],
        "verdicts": {str(verdict): count for verdict, count in run.ledger.verdicts.items()},
    }
    (directory / "chaos.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    return text


def markdown(run: Run, *, database: str, seed: int) -> str:
    """What happened, in tables. Times are in seconds, percentiles by nearest rank."""
    verdicts = ", ".join(f"{count} {verdict}" for verdict, count in sorted(run.ledger.verdicts.items()))
    lines = [
        f"# Chaos: {sum(len(one.kinds) for one in run.rounds)} faults in {run.seconds / 60:.1f} minutes",
        "",
        f"{CLIENTS} clients, {database}, seed {seed}. {sum(run.ledger.verdicts.values())} requests: {verdicts}.",
        "",
        *_broken(run),
        "| fault | times | settled p50 | p99 | max | longest API outage |",
        "|---|---|---|---|---|---|",
    ]
    by_kind: dict[str, list[Round]] = defaultdict(list)
    for one in run.rounds:
        by_kind[one.kinds[0] if len(one.kinds) == 1 else _SEVERAL].append(one)
    lines += [_row(kind, rounds) for kind, rounds in sorted(by_kind.items())]
    lines += [_row("all", run.rounds), "", *_requests(run)]
    return "\n".join(lines) + "\n"


def _broken(run: Run) -> list[str]:
    if not run.broken:
        return ["No promise was broken.", ""]
    return ["Broken:", "", *(f"- {text}" for text in run.broken), ""]


def _row(kind: str, rounds: list[Round]) -> str:
    settled = [one.settled for one in rounds if one.settled is not None]
    figures = [percentile(settled, 0.5), percentile(settled, 0.99), max(settled)] if settled else []
    shown = " | ".join(f"{figure:.1f}" for figure in figures) or "never | never | never"
    return f"| {kind} | {len(rounds)} | {shown} | {max((one.outage for one in rounds), default=0.0):.1f} |"


def _requests(run: Run) -> list[str]:
    table: dict[str, Counter[str]] = defaultdict(Counter)
    for (what, label), count in run.ledger.requests.items():
        table[what][label] += count
    labels = sorted({label for counts in table.values() for label in counts})
    lines = [f"| request | {' | '.join(labels)} |", f"|---|{'---|' * len(labels)}"]
    lines += [
        f"| {what} | {' | '.join(str(counts[label] or '') for label in labels)} |"
        for what, counts in sorted(table.items())
    ]
    return lines
