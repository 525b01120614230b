"""The command: how long, which faults, on which database, and where the report goes."""

from __future__ import annotations

import argparse
import asyncio
import random
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.chaos import report
from tests.chaos.faults import KINDS, POSTGRESQL, Fault, draw, known
from tests.chaos.place import own_place
from tests.chaos.rounds import run

_PAIRS = 5


def main(arguments: Sequence[str]) -> int:
    """Run, report; the exit code is 1 when a promise was broken."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # so that nothing is left running
    options = _parser().parse_args(arguments)
    every = [*KINDS, POSTGRESQL]
    wanted = [kind for kind in every if any(part in kind for part in options.faults.split(","))]
    kinds = known(wanted, postgresql=options.database == "postgresql")
    if not kinds:
        print(f"chaos: no fault is called like {options.faults!r}; there are: {', '.join(every)}", file=sys.stderr)
        return 2
    seed = options.seed if options.seed is not None else random.SystemRandom().randrange(1_000_000)
    print(f"seed {seed}, {options.database}, {len(kinds)} kinds of faults", flush=True)
    with own_place(options.database) as place:
        rounds = _deck(kinds, random.Random(f"faults {seed}"), options.minutes * 60)
        done = asyncio.run(run(place, seed, rounds, lambda line: print(line, flush=True)))
        print("\n" + report.write(done, options.report, database=options.database, seed=seed))
        place.keep = bool(done.broken)
    return int(bool(done.broken))


def _deck(kinds: list[str], chance: random.Random, seconds: float) -> Iterator[list[Fault]]:
    """Faults until the time is up: all kinds in an order of chance, then two at once a few times, and so on."""
    end = time.monotonic() + seconds
    while True:
        rounds = [[kind] for kind in chance.sample(kinds, len(kinds))]
        if len(kinds) > 1:
            rounds += [chance.sample(kinds, 2) for _ in range(_PAIRS)]
        for round_ in rounds:
            if time.monotonic() > end:
                return
            yield [draw(kind, chance) for kind in round_]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description="Kill and stop what runs, under load.")
    add = parser.add_argument
    add("--minutes", type=float, default=10.0, help="how long faults are done")
    add("--seed", type=int, help="of the order of faults and of what clients do")
    add("--report", type=Path, default=Path("build/chaos"), help="directory for chaos.md and chaos.json")
    add("--database", choices=("sqlite", "postgresql"), default="sqlite", help="engine of the records")
    add("--faults", default="", help="parts of names of faults, with commas between: only those")
    return parser
