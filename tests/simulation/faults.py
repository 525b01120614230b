"""Which faults are on, how often they strike, and how often they did. All chance of a run comes from its seed."""

from __future__ import annotations

import random
import uuid
from collections import Counter

NETWORK = ("drop", "lose-reply", "delay", "duplicate", "silence")
DRIVER = ("final", "retryable", "uncertain", "unknown", "hang")
STORE = ("store-read", "store-before", "store-after")
WINDOWS = (*NETWORK, *(f"{name}-{when}" for name in DRIVER[:-1] for when in ("before", "after")), "hang", *STORE)
"""Faults that strike each call with a rate while they are on."""


class Chance:
    """The randomness of a run. Each use has its own stream, so that one more draw of one does not shift the others."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._ids = random.Random(f"{seed} ids")
        self._times = random.Random(f"{seed} times")

    def stream(self, name: str) -> random.Random:
        """A generator of its own for one use."""
        return random.Random(f"{self._seed} {name}")

    def new_id(self) -> str:
        """A UUID."""
        return str(uuid.UUID(int=self._ids.getrandbits(128), version=4))

    def latency(self) -> float:
        """Seconds that a message or a transaction takes: mostly a millisecond, at times fifty."""
        return float(self._times.choice((0.001, 0.001, 0.002, 0.004, 0.01, 0.05))) * (0.5 + self._times.random())

    def within(self, low: float, high: float) -> float:
        """Seconds between two bounds."""
        return low + (high - low) * self._times.random()


class Faults:
    """`rates` holds what is on, `counts` what has struck."""

    def __init__(self, chance: Chance) -> None:
        self.rates: dict[str, float] = {}
        self.counts: Counter[str] = Counter()
        self._streams = {name: chance.stream(f"fault {name}") for name in WINDOWS}

    def start(self, name: str, rate: float) -> None:
        """Let it strike from now on."""
        self.rates[name] = rate

    def stop(self, name: str) -> None:
        """Let it strike no more."""
        self.rates.pop(name, None)

    def strikes(self, name: str) -> bool:
        """Whether it strikes this time."""
        rate = self.rates.get(name)
        if rate is None or self._streams[name].random() >= rate:
            return False
        self.counts[name] += 1
        return True
