"""Work that goes on to its end although whoever asked for it is cancelled: half a change would be left otherwise, and a
thread cannot be cancelled anyway."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from contextlib import AbstractAsyncContextManager
from typing import TypeVar

T = TypeVar("T")


async def uninterrupted(turn: AbstractAsyncContextManager[object], work: Awaitable[T]) -> T:
    """The result of `work`, which is done while `turn` is held: who has the next turn finds what it did."""

    async def held() -> T:
        async with turn:
            return await work

    return await asyncio.shield(asyncio.ensure_future(held()))
