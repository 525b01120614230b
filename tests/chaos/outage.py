"""How long the API does not answer: somebody who asks ten times a second, all the time."""

from __future__ import annotations

import asyncio
import time

from tests.chaos.ledger import Verdict
from tests.chaos.users import Api

_PERIOD_SECONDS = 0.1
_PATIENCE_SECONDS = 2.0


class Outage:
    """`longest` is the longest time since `begin` from a question that failed to the end of the next that did not."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self._down_since: float | None = None
        self._longest = 0.0

    def begin(self) -> None:
        """Forget what was."""
        self._longest = 0.0

    @property
    def longest(self) -> float:
        """Seconds; an outage that lasts counts up to now."""
        lasting = time.monotonic() - self._down_since if self._down_since is not None else 0.0
        return max(self._longest, lasting)

    async def watch(self) -> None:
        """Ask until cancelled."""
        while True:
            asked = time.monotonic()
            answer = await self._api.quietly("GET", "/volumes?limit=1", seconds=_PATIENCE_SECONDS)
            if answer.verdict is not Verdict.ACKNOWLEDGED:
                self._down_since = self._down_since or asked
            elif self._down_since is not None:
                self._longest = max(self._longest, time.monotonic() - self._down_since)
                self._down_since = None
            await asyncio.sleep(_PERIOD_SECONDS)
