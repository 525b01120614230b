"""When an actor ends itself so that Ray starts it anew: when it cannot be made, and when a loop of it has ended.

Ray starts actors again whose process died. One whose constructor raised is dead for good, so none may raise. One that
does nothing any more cannot end itself: it stops beating, and `actors.hangs` notices.
"""

from __future__ import annotations

import asyncio
import os
import time
import traceback
from collections.abc import Collection, Coroutine, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import structlog

log = structlog.get_logger()
EXIT_CODE = 70
PAUSE_SECONDS = 2.0
BEAT_SECONDS = 1.0


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


async def beat(state_dir: Path) -> None:
    """Show until cancelled that this process's event loop turns: touch the file `run/beats/PID` every second.

    A disk that does not take it is waited for; the next beat tries again. (Whoever looks tries the disk as well.)
    """
    while True:
        try_beat(state_dir)
        await asyncio.sleep(BEAT_SECONDS)


def try_beat(state_dir: Path) -> bool:
    """Touch this process's file; return whether the disk took it."""
    path = _beats(state_dir) / str(os.getpid())
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.touch()
    except OSError as error:
        log.warning("actor.no_beat", path=str(path), error=str(error))
        return False
    return True


def beats(state_dir: Path, living: Collection[int]) -> dict[int, int]:
    """Pid → time of the last beat (nanoseconds, the file system's clock) of those that live. Files of others go."""
    found: dict[int, int] = {}
    with suppress(OSError):
        for entry in os.scandir(_beats(state_dir)):
            with suppress(OSError, ValueError):
                if int(entry.name) in living:
                    found[int(entry.name)] = entry.stat().st_mtime_ns
                else:
                    Path(entry).unlink()
    return found


def _beats(state_dir: Path) -> Path:
    return state_dir / "run" / "beats"


def _ended(task: asyncio.Task[None]) -> None:
    if task.cancelled():
        return
    log.critical("actor.loop_ended", loop=task.get_name(), exc_info=task.exception())
    os._exit(EXIT_CODE)
