"""A run: rounds of load, a fault, rest, and checks; the same clients and the same volumes all the way."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from tests.chaos.faults import Fault, Injector, NoTargetError
from tests.chaos.invariants import broken
from tests.chaos.ledger import Ledger
from tests.chaos.outage import Outage
from tests.chaos.place import Place
from tests.chaos.settling import PROMISED_SECONDS, Settling, UnsettledError
from tests.chaos.users import Api, User
from tests.integration.clients import administrator

CLIENTS = 16
THINK_SECONDS = 1.5
_BEFORE_SECONDS = (1.0, 4.0)
_AFTER_SECONDS = (0.5, 3.0)


@dataclass(frozen=True)
class Round:
    """What came of one fault, or of several at once: seconds until all was settled after it (None: it never was), the
    longest outage of the API in seconds, and what is broken then."""

    fault: str
    kinds: list[str]
    settled: float | None
    outage: float
    broken: list[str] = field(default_factory=list)

    @property
    def late(self) -> bool:
        """Whether it settled, and later than promised."""
        return self.settled is not None and self.settled > PROMISED_SECONDS


@dataclass
class Run:
    """All rounds, and what the clients asked for."""

    ledger: Ledger
    rounds: list[Round] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def broken(self) -> list[str]:
        """Every promise that was broken, with the fault after which it was."""
        late = [
            f"after {one.fault}: settled in {one.settled:.1f} s; promised are {PROMISED_SECONDS:.0f} s"
            for one in self.rounds
            if one.late
        ]
        return [*(f"after {one.fault}: {text}" for one in self.rounds for text in one.broken), *late]


async def run(place: Place, seed: int, rounds: Iterable[Sequence[Fault]], tell: Callable[[str], None]) -> Run:
    """Do the faults under load, each round's at once; stop after the first that breaks more than a promised time."""
    ledger = Ledger()
    began = time.monotonic()
    done = Run(ledger)
    async with _stage(place, seed, ledger) as stage:
        for faults in rounds:
            one = await stage.round(faults)
            done.rounds.append(one)
            done.seconds = time.monotonic() - began
            settled = "never" if one.settled is None else f"{one.settled:5.1f} s"
            tell(f"{done.seconds:7.1f} s  {one.fault:28} settled {settled}  outage {one.outage:4.1f} s")
            for text in one.broken:
                tell(f"           BROKEN: {text}")
            if one.broken:
                break
    return done


class _Stage:
    def __init__(self, place: Place, api: Api, ledger: Ledger, outage: Outage, seed: int) -> None:
        self._place, self._api, self._ledger, self._outage = place, api, ledger, outage
        self._chance = random.Random(f"rounds {seed}")
        self._injector = Injector(place, self._chance)
        self._settling = Settling(place, api, ledger)
        self._users = [
            User(number, api, ledger, random.Random(f"user {seed} {number}"), place.volume_file, THINK_SECONDS)
            for number in range(CLIENTS)
        ]

    async def round(self, faults: Sequence[Fault]) -> Round:
        """Load, the faults, a little more load, rest, checks."""
        named, kinds = " + ".join(str(fault) for fault in faults), [fault.kind for fault in faults]
        self._outage.begin()
        stop = asyncio.Event()
        load = asyncio.gather(*(user.work(stop) for user in self._users))
        try:
            await asyncio.sleep(self._chance.uniform(*_BEFORE_SECONDS))
            try:
                over = max(await asyncio.gather(*(self._injector.inject(fault) for fault in faults)))
            except NoTargetError as error:
                return Round(named, kinds, None, 0.0, [str(error)])
            await asyncio.sleep(self._chance.uniform(*_AFTER_SECONDS))
        finally:
            stop.set()
            await load
        try:
            settled = await self._settling.wait(over)
        except UnsettledError as error:
            return Round(named, kinds, None, self._outage.longest, [str(error)])
        finally:
            self._injector.release()
        wrong = await broken(self._place, self._api, self._ledger)
        return Round(named, kinds, settled, self._outage.longest, wrong)


@asynccontextmanager
async def _stage(place: Place, seed: int, ledger: Ledger) -> AsyncIterator[_Stage]:
    admin = await asyncio.to_thread(administrator, place.service)
    token, project_id = await asyncio.to_thread(admin.login)
    api = Api(place.service.endpoint, project_id, token, ledger)
    outage = Outage(api)
    watching = asyncio.create_task(outage.watch())
    try:
        yield _Stage(place, api, ledger, outage, seed)
    finally:
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
        await api.close()
        admin.http.close()
