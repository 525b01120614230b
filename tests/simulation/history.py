"""Histories: what is asked and what goes wrong, when. Drawn from a seed; a part of one is a history too."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tests.simulation.faults import WINDOWS, Chance

SERVICES = ("h1@a", "h2@b")
REPLICAS = ("api 1", "api 2")
# Whom a disaster befalls; some more often than others.
ROLES = ("conductor", "scheduler", *SERVICES, REPLICAS[0], "conductor", SERVICES[0], REPLICAS[1])
REQUESTS = {
    "create": 5, "snapshot": 5, "extend": 5, "delete": 3, "delete_snapshot": 3, "reset_status": 2, "quota": 1,
    "orphan": 2, "write": 5, "attach": 4, "connect": 2, "complete": 2, "detach": 2, "older": 4, "abandon": 1,
    "detach_by_reset": 1,
}  # fmt: skip
# What a consumer does one after the other with one volume: requests, each with its third number.
_SESSIONS = (
    (("attach", 1), ("complete", 0), ("extend", 1), ("detach", 0)),
    (("attach", 4), ("connect", 0), ("complete", 0), ("connect", 0), ("detach", 0), ("attach", 2)),
    (("attach", 3), ("complete", 0), ("snapshot", 1), ("abandon", 0)),
    (("attach", 9), ("complete", 0), ("write", 0), ("abandon", 1), ("attach", 5)),
    (("older", 0), ("older", 4), ("older", 6), ("older", 2), ("older", 8), ("older", 9), ("delete", 1)),
    (("older", 4), ("older", 5), ("older", 7), ("extend", 1), ("older", 10)),
    (("attach", 1), ("complete", 0), ("attach", 2), ("delete", 1), ("complete", 0), ("detach", 0)),
)
DISASTERS = {"window": 8, "kill": 4, "pause": 2, "twin": 4, "cut": 2, "full": 2, "stray": 1, "skew": 1, "reboot": 3}
KINDS = (*REQUESTS, *DISASTERS)


@dataclass(frozen=True)
class Event:
    """`kind` of REQUESTS or DISASTERS, `after` so many seconds from the one before; `a`, `b`, `c` choose which and how
    (from 0 up), `seconds` is how long a disaster lasts."""

    after: float
    kind: str
    a: int
    b: int
    c: int
    seconds: float = 0.0

    def __str__(self) -> str:
        if self.kind == "window":
            what = f"{WINDOWS[self.a % len(WINDOWS)]} at rate {rate(self)} for {self.seconds:g} s"
        elif self.kind in ("kill", "pause", "twin", "cut", "skew"):
            what = f"{ROLES[self.a % len(ROLES)]} for {self.seconds:g} s"
        else:
            what = ""
        return f"+{self.after:6.2f} s  {self.kind} {what} {(self.a, self.b, self.c)}"


def rate(event: Event) -> float:
    """How often a window's fault strikes."""
    return (0.05, 0.2, 0.5, 1.0)[event.b % 4]


def draw(seed: int) -> list[Event]:
    """The history of a seed: 14 to 45 events in about a minute; a tenth of them has a fault of five minutes."""
    random = Chance(seed).stream("history")
    events: list[Event] = []
    for number in range(random.randint(14, 32)):
        disaster = number > 0 and random.random() < 0.25
        weights = DISASTERS if disaster else REQUESTS
        [kind] = random.choices([*weights], [*weights.values()]) if number > 3 or disaster else ["create"]
        a, b, c = (random.randrange(1000) for _ in range(3))
        seconds = random.choice((1.0, 5.0, 12.0, 20.0, 40.0)) if disaster else 0.0
        events.append(Event(random.choice((0.0, 0.01, 0.1, 0.3, 1.0, 4.0)), kind, a, b, c, seconds))
    for _ in range(random.choice((0, 1, 1, 2))):
        start, volume = random.randrange(3, len(events)), random.randrange(4)
        for kind, how in random.choice(_SESSIONS):
            # With everything else in between, and the attachment that was made last.
            event = Event(random.choice((0.1, 0.3, 1.0)), kind, volume, random.randrange(1000), how)
            events.insert(start, event)
            start = min(len(events), start + random.choice((1, 1, 2)))
    if random.random() < 0.3:
        # A stray object is listed by the next reconcile, and then somebody decides about it while something is wrong.
        events.insert(0, Event(0.1, "stray", random.randrange(1000), random.randrange(1000), 0))
        events.append(Event(30.0, "window", random.randrange(1000), random.randrange(1000), 0, 20.0))
        events += [Event(0.2, "orphan", *(random.randrange(1000) for _ in range(3))) for _ in range(2)]
    if random.random() < 0.1:
        window = random.randrange(len(WINDOWS))
        events.insert(random.randrange(len(events)), Event(0.1, "window", window, 3, 0, 300.0))
        events.append(Event(280.0, "write", 0, 0, 0))
    return events


def shown(events: Sequence[Event]) -> str:
    """For people."""
    return "\n".join(f"  {event}" for event in events)
