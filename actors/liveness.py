"""How an actor's background loops are watched: a loop that has ended ends its actor, and Ray starts it anew."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Coroutine
from typing import Any

import structlog

log = structlog.get_logger()
EXIT_CODE = 70


def watch(loop: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
    """Run `loop` for as long as the process lives. It has no business to end: when it does, the process goes too, since
    half an actor (it answers, and does nothing) is worse than one that is restarted."""
    task = asyncio.create_task(loop, name=name)
    task.add_done_callback(_ended)
    return task


def _ended(task: asyncio.Task[None]) -> None:
    if task.cancelled():
        return
    log.critical("actor.loop_ended", loop=task.get_name(), exc_info=task.exception())
    os._exit(EXIT_CODE)
