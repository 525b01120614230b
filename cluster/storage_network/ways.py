"""The ways to the exports of one volume service, remembered on disk, and the rules that go with them.

An export knows after a crash whom it serves, and where; whom it lets in from which address, with which limits, only its
caller knew. That is what the files say, one a way, written before the rules. Knows no export and no kernel interface.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TypeVar

import structlog

from cluster.settings_file import write_private
from cluster.storage_network.seam import Capability, Rules, Way
from drivers.vocabulary import BackendUnavailableError, Limits, Portal, StorageError, checked_id

log = structlog.get_logger()
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class _Told:
    way: Way
    stamp: int


class Ways:
    """Implements `seam.StorageNetwork`. `directory` is its own, `service` is `host@backend`, for the log; `about` is
    shown beside the rules. One object a service; all its methods are called from one event loop."""

    def __init__(
        self, service: str, directory: Path, rules: Sequence[Rules], about: Mapping[str, Capability] | None = None
    ) -> None:
        self._service = service
        self._about = dict(about or {})
        self._directory = directory
        self._rules = tuple(rules)
        self._told: dict[str, _Told] = {}
        self._stamp = 0
        self._is_read = False
        self._one_at_a_time = asyncio.Lock()
        self._failed: dict[int, str] = {}

    async def open(self) -> None:
        """See `StorageNetwork`."""
        await _to_its_end(self._open())

    async def _open(self) -> None:
        async with self._one_at_a_time:
            await self._read()
            await self._apply_or_log()

    def shown(self) -> Mapping[str, Capability]:
        """See `StorageNetwork`."""
        found = dict(self._about)
        for rules in self._rules:
            found.update(rules.shown())
        return found

    def stamp(self) -> int:
        return self._stamp

    async def has_way(self, connection_id: str) -> bool:
        """See `StorageNetwork`."""
        async with self._one_at_a_time:
            await self._read()
            return connection_id in self._told

    async def ensure_way(self, way: Way) -> None:
        """See `StorageNetwork`."""
        for rules in self._rules:
            rules.refuse(way)
        await _to_its_end(self._ensure(way))

    async def _ensure(self, way: Way) -> None:
        async with self._one_at_a_time:
            await self._read()
            before = self._told.get(way.connection_id)
            self._stamp += 1
            self._told[way.connection_id] = _Told(way, self._stamp)
            try:
                if before is None or before.way != way:
                    await asyncio.to_thread(self._write, way)
                await self._apply()
            except Exception:
                # As before: by then some kinds of rules may be in force.
                if before is None:
                    del self._told[way.connection_id]
                    await asyncio.to_thread(self._forget, way.connection_id)
                else:
                    self._told[way.connection_id] = before
                    await asyncio.to_thread(self._write, before.way)
                await self._apply_or_log()
                raise

    async def ensure_way_absent(self, connection_id: str) -> None:
        """See `StorageNetwork`."""
        await _to_its_end(self._end(connection_id))

    async def _end(self, connection_id: str) -> None:
        async with self._one_at_a_time:
            await self._read()
            if self._told.pop(connection_id, None) is None:
                return
            await asyncio.to_thread(self._forget, connection_id)
            await self._apply_or_log()

    async def reconcile(self, served: Mapping[str, Portal], since: int) -> Collection[str]:
        """See `StorageNetwork`."""
        return await _to_its_end(self._compare(served, since))

    async def _compare(self, served: Mapping[str, Portal], since: int) -> Collection[str]:
        async with self._one_at_a_time:
            await self._read()
            for connection_id, told in list(self._told.items()):
                if told.stamp > since:
                    continue
                if connection_id not in served:
                    del self._told[connection_id]
                    await asyncio.to_thread(self._forget, connection_id)
                elif told.way.portal != served[connection_id]:
                    self._told[connection_id] = replace(told, way=replace(told.way, portal=served[connection_id]))
            await self._apply_or_log()
            return served.keys() - self._told.keys()

    async def _apply(self) -> None:
        ways = [told.way for told in self._told.values()]
        for rules in self._rules:
            await rules.apply(ways)

    async def _apply_or_log(self) -> None:
        ways = [told.way for told in self._told.values()]
        for number, rules in enumerate(self._rules):
            try:
                await rules.apply(ways)
            except StorageError as error:
                because = str(error)
            except Exception as error:  # a defect of one kind of rule takes nothing from the others
                because = f"a defect: {type(error).__name__}"
            else:
                self._failed.pop(number, None)
                continue
            if self._failed.get(number) != because:
                log.warning("network.rules_failed", host=self._service, rules=type(rules).__name__, error=because)
            self._failed[number] = because

    async def _read(self) -> None:
        if self._is_read:
            return
        for way in await asyncio.to_thread(self._remembered):
            self._told[way.connection_id] = _Told(way, self._stamp)
        self._is_read = True

    def _remembered(self) -> list[Way]:
        if not self._directory.is_dir():
            return []
        found = [_parsed(path) for path in sorted(self._directory.glob("*.json"))]
        return [way for way in found if way is not None]

    def _write(self, way: Way) -> None:
        checked_id(way.connection_id)
        try:
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            write_private(self._directory / f"{way.connection_id}.json", json.dumps(asdict(way)) + "\n")
        except OSError as error:
            raise BackendUnavailableError(f"cannot write in {self._directory}: {error}") from error

    def _forget(self, connection_id: str) -> None:
        try:
            (self._directory / f"{checked_id(connection_id)}.json").unlink(missing_ok=True)
        except OSError as error:  # after the next start it is known for a moment, and not served
            log.warning("network.not_forgotten", host=self._service, resource_id=connection_id, error=str(error))


async def _to_its_end(work: Awaitable[T]) -> T:
    """Its result; it goes on although whoever asked is cancelled: a thread cannot be, and rules of two moments must not
    pass each other."""
    return await asyncio.shield(asyncio.ensure_future(work))


def directory_of(state_dir: Path, backend: str) -> Path:
    """Where a node remembers the ways to a backend's exports."""
    return state_dir / "network" / backend


def backends(state_dir: Path) -> list[str]:
    """The backends to whose exports there are or were ways, on this node."""
    there = directory_of(state_dir, "backend").parent
    return sorted(entry.name for entry in there.iterdir()) if there.is_dir() else []


def _parsed(path: Path) -> Way | None:
    """The way that the file remembers; None when it is not one of this version: its connection is then let in again."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        return Way(**{**found, "portal": Portal(**found["portal"]), "limits": Limits(**found["limits"])})
    except (OSError, ValueError, TypeError, KeyError):
        return None
