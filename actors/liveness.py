"""When an actor ends itself so that Ray starts it anew: when it cannot be made, and when a loop of it has ended.

Ray starts actors again whose process died. One whose constructor raised is dead for good, so none may raise.
"""

from __future__ import annotations

import asyncio
import os
import time
import traceback
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from typing import Any

import structlog

log = structlog.get_logger()
EXIT_CODE = 70
PAUSE_SECONDS = 2.0


@contextmanager
def or_end(name: str) -> Iterator[None]:
    """Around all that a constructor does: what goes wrong is logged, and the process ends after a pause, so that an
    actor which cannot be made (its settings are unreadable, its disk is full) is not tried in a hot loop."""
    try:
        yield
    except Exception as error:  # whatever it is, a constructor that raises would be the actor's end for good
        # As text: logging may not be configured yet, and structlog's own rendering would show the variables' values.
        log.critical("actor.not_made", actor=name, exception="".join(traceback.format_exception(error)))
        time.sleep(PAUSE_SECONDS)
        os._exit(EXIT_CODE)


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
