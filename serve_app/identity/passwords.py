"""Passwords: argon2 in a thread, two at a time, slower for a name that keeps failing.

Verification is slow by design, so it is what a flood of guesses would exhaust: the number that may wait is bounded,
and a name that does not exist costs what one that does.
"""

from __future__ import annotations

import asyncio
import secrets
from collections import OrderedDict
from collections.abc import Callable
from typing import TypeVar

from argon2 import PasswordHasher
from argon2.exceptions import Argon2Error, InvalidHashError

from serve_app.wire.faults import Unavailable

T = TypeVar("T")
NO_PASSWORD = "!"  # noqa: S105 - no hash begins so: nobody logs in with it
_AT_ONCE = 2
_MAY_WAIT = 32
_NAMES = 1024
_LONGEST_DELAY = 2.0


class Passwords:
    """Hashes and verifies. `first_delay` (seconds) is what a second attempt after a failure waits; it doubles."""

    def __init__(self, hasher: PasswordHasher | None = None, first_delay: float = 0.1) -> None:
        self._hasher = hasher or PasswordHasher()
        self._slots = asyncio.Semaphore(_AT_ONCE)
        self._waiting = 0
        self._first_delay = first_delay
        self._failures: OrderedDict[str, int] = OrderedDict()
        self._decoy: str | None = None

    async def hashed(self, password: str) -> str:
        """The hash to keep. Raises Unavailable when too many wait."""
        return await self._run(lambda: self._hasher.hash(password))

    async def verify(self, name: str, kept: str | None, password: str) -> bool:
        """Whether `password` is the one that `kept` is the hash of (None: there is no such user). `name` is what was
        asked for; its failures slow it down. Raises Unavailable when too many wait."""
        failures = self._failures.get(name, 0)
        if failures:
            await asyncio.sleep(min(_LONGEST_DELAY, self._first_delay * 2 ** (failures - 1)))
        right = await self._run(lambda: self._verify(kept, password))
        if right:
            self._failures.pop(name, None)
        else:
            self._failures[name] = min(failures + 1, 16)
            self._failures.move_to_end(name)
            if len(self._failures) > _NAMES:
                self._failures.popitem(last=False)
        return right

    def _verify(self, kept: str | None, password: str) -> bool:
        if self._decoy is None:
            self._decoy = self._hasher.hash(secrets.token_hex(16))
        usable = kept is not None and kept != NO_PASSWORD
        try:
            self._hasher.verify(kept if kept is not None and usable else self._decoy, password)
        except (Argon2Error, InvalidHashError):
            return False
        return usable

    async def _run(self, work: Callable[[], T]) -> T:
        if self._waiting >= _MAY_WAIT:
            raise Unavailable("Too many passwords are being checked. Try again in a few seconds.")
        self._waiting += 1
        try:
            async with self._slots:
                return await asyncio.to_thread(work)
        finally:
            self._waiting -= 1
