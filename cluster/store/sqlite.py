"""The embedded store: SQLite in WAL mode with synchronous=FULL.

Reads run in the caller's event loop: an indexed read is shorter than a thread hop. Writes go to one thread of the
process, which runs all that have gathered as savepoints of one transaction, so that many writers share one sync of
the disk. Writers of different processes queue on a lock file, which wakes the next at once, where SQLite's own busy
handler would sleep and poll.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.pool import StaticPool

from cluster.store.seam import StoreUnavailableError, Work, translated

T = TypeVar("T")
_BUSY_SECONDS = 30.0
_BATCH = 64
_LOCK_POLL_SECONDS = 0.001


def _engine(path: Path, begin: str) -> Engine:
    engine = create_engine(
        f"sqlite:///{path}",
        poolclass=StaticPool,
        hide_parameters=True,
        connect_args={"isolation_level": None, "check_same_thread": False, "timeout": _BUSY_SECONDS},
    )

    @event.listens_for(engine, "connect")
    def _pragmas(connection: Any, _record: Any) -> None:
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "cache_size=-16384"):
            connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        # On the driver's own connection: SQLAlchemy's way to a statement costs more than an indexed read.
        driver: Any = connection.connection.driver_connection
        driver.execute(begin)

    return engine


class SqliteStore:
    """A store on the file `path`, whose directory must exist. The schema must be up to date (`migrate`)."""

    def __init__(self, path: Path) -> None:
        self._reader = _engine(path, "BEGIN")
        self._writer = _engine(path, "BEGIN IMMEDIATE")
        self._lock = os.open(f"{path}.writer", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        self._waiting: queue.SimpleQueue[tuple[Work[Any], Future[Any]] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._serve, name="sqlite-writer", daemon=True)
        self._thread.start()
        self._closed = False
        self._reading: Connection | None = None

    async def read(self, work: Work[T]) -> T:
        # One connection for all reads: they never overlap, since none of them waits for anything.
        with translated("SQLite"):
            if self._reading is None:
                self._reading = self._reader.connect()
            with self._reading.begin():
                return work(self._reading)

    async def write(self, work: Work[T]) -> T:
        if self._closed:
            raise StoreUnavailableError("the store is closed")
        future: Future[T] = Future()
        self._waiting.put((work, future))
        # Shielded: a caller that gives up does not undo a write that others share a transaction with.
        return await asyncio.shield(asyncio.wrap_future(future))

    async def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        self._waiting.put(None)
        await asyncio.to_thread(self._thread.join)
        if self._reading is not None:
            self._reading.close()
        self._reader.dispose()
        self._writer.dispose()
        os.close(self._lock)

    def _serve(self) -> None:
        while (first := self._waiting.get()) is not None:
            batch, last = [first], False
            while len(batch) < _BATCH and not last:
                try:
                    item = self._waiting.get_nowait()
                except queue.Empty:
                    break
                if item is None:
                    last = True
                else:
                    batch.append(item)
            self._commit(batch)
            if last:
                return

    def _commit(self, batch: list[tuple[Work[Any], Future[Any]]]) -> None:
        """Run the batch in one transaction, then answer everybody. Nobody is answered before the commit."""
        answers: list[Callable[[], None]] = []
        try:
            with translated("SQLite"):
                self._take_turn()
                try:
                    with self._writer.connect() as db, db.begin():
                        for work, future in batch:
                            answers.append(_run(db, work, future))
                finally:
                    fcntl.flock(self._lock, fcntl.LOCK_UN)
        except BaseException as error:
            for _, future in batch:
                future.set_exception(error)
            return
        for answer in answers:
            answer()

    def _take_turn(self) -> None:
        """Wait for the other processes' writers; one that hangs inside a commit must not hang this one for ever."""
        deadline = time.monotonic() + _BUSY_SECONDS
        while True:
            try:
                fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise StoreUnavailableError(
                        f"SQLite: another process has not finished its write for {_BUSY_SECONDS:g} s"
                    ) from None
                time.sleep(_LOCK_POLL_SECONDS)
            else:
                return


def _run(db: Connection, work: Work[Any], future: Future[Any]) -> Callable[[], None]:
    """Run `work` in a savepoint and return how to answer its caller. Raises StoreUnavailableError for the whole batch
    when SQLite has given up the transaction itself, which it may do on a full disk or an I/O error."""
    try:
        with db.begin_nested(), translated("SQLite"):
            result = work(db)
    except Exception as error:
        driver: Any = db.connection.driver_connection
        if not driver.in_transaction:
            raise StoreUnavailableError(f"SQLite rolled everything back: {error}") from error
        answer = error  # a lambda's closure must not hold a name that `except` deletes
        return lambda: future.set_exception(answer)
    return lambda: future.set_result(result)
