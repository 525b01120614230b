"""Passwords: argon2 in a thread, two at a time, slower for a name that keeps failing.

Verification is slow by design, so it is what a flood of guesses would exhaust: the number that may wait is bounded,
and a name that does not exist costs what one that does. Attempts at one name go one after another, or a crowd of them
would be answered before the first failure counts.
"""

from __future__ import annotations

import asyncio
import hashlib
import secrets
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import TypeVar

from argon2 import PasswordHasher
from argon2.exceptions import Argon2Error, InvalidHashError

from serve_app.wire.faults import Unavailable

T = TypeVar("T")
NO_PASSWORD = "!"  # noqa: S105 - no hash begins so: nobody logs in with it
_AT_ONCE = 2
_MAY_WAIT = 32
_NAMES = 1024
_ATTEMPTS = 1024
_LONGEST_DELAY = 2.0
_TOO_MANY = "Too many passwords are being checked. Try again in a few seconds."


class _Queue:
    """The attempts at one name: who has the lock tries, `length` counts it and those behind it."""

    __slots__ = ("length", "lock")

    def __init__(self) -> None:
        self.lock, self.length = asyncio.Lock(), 0


class Passwords:
    """Hashes and verifies. `first_delay` (seconds) is what a second attempt after a failure waits; it doubles."""

    def __init__(self, hasher: PasswordHasher | None = None, first_delay: float = 0.1) -> None:
        self._hasher = hasher or PasswordHasher()
        self._slots = asyncio.Semaphore(_AT_ONCE)
        self._waiting = 0
        self._first_delay = first_delay
        # By a hash of the name: names come from callers nobody knows yet, and may be long.
        self._failures: OrderedDict[bytes, int] = OrderedDict()
        self._queues: dict[bytes, _Queue] = {}
        self._attempts = 0
        self._decoy: str | None = None

    async def hashed(self, password: str) -> str:
        """The hash to keep. Raises Unavailable when too many wait."""
        return await self._run(lambda: self._hasher.hash(password))

    async def verify(self, name: str, kept: str | None, password: str) -> bool:
        """Whether `password` is the one that `kept` is the hash of (None: there is no such user). `name` is what was
        asked for; its failures slow it down. Raises Unavailable when too many wait, in all or for this name."""
        key = hashlib.sha256(name.encode("utf-8", "surrogatepass")).digest()
        async with self._turn(key):
            failures = self._failures.get(key, 0)
            if failures:
                await asyncio.sleep(min(_LONGEST_DELAY, self._first_delay * 2 ** (failures - 1)))
            right = await self._run(lambda: self._verify(kept, password))
            if right:
                self._failures.pop(key, None)
            else:
                self._count_failure(key)
        return right

    @asynccontextmanager
    async def _turn(self, key: bytes) -> AsyncIterator[None]:
        """Wait until nobody else tries this name. Raises Unavailable."""
        queue = self._queues.get(key) or _Queue()
        if queue.length >= _MAY_WAIT or self._attempts >= _ATTEMPTS:
            raise Unavailable(_TOO_MANY)
        self._queues[key] = queue
        queue.length += 1
        self._attempts += 1
        try:
            async with queue.lock:
                yield
        finally:
            queue.length -= 1
            self._attempts -= 1
            if queue.length == 0:
                del self._queues[key]

    def _count_failure(self, key: bytes) -> None:
        self._failures[key] = min(self._failures.get(key, 0) + 1, 16)
        self._failures.move_to_end(key)
        if len(self._failures) > _NAMES:
            self._failures.popitem(last=False)

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
            raise Unavailable(_TOO_MANY)
        self._waiting += 1
        try:
            async with self._slots:
                return await asyncio.to_thread(work)
        finally:
            self._waiting -= 1
