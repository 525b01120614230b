"""The client, volumes and snapshots as coroutines. What is known of a resource is what was last seen of it (`refresh`).

All handles can be pickled and passed to tasks and actors.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
import uuid
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal, Self
from urllib.parse import urlencode

from actors.handles.errors import FailedError, HandleError, MissingError, NotInTimeError, RefusedError
from actors.handles.session import Session
from actors.names import HOST_LABEL

Mode = Literal["rw", "ro"]
_FIRST_WAIT, _LONGEST_WAIT = 0.02, 1.0
READY_SECONDS = 600.0


class AsyncClient:
    """Everything starts here. Sizes are GiB; times are seconds."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def __reduce__(self) -> tuple[Any, ...]:
        return AsyncClient, (self._session,)

    async def create_volume(
        self,
        size_gib: int | None = None,
        *,
        name: str | None = None,
        description: str | None = None,
        volume_type: str | None = None,
        availability_zone: str | None = None,
        metadata: Mapping[str, str] | None = None,
        snapshot: AsyncSnapshot | str | None = None,
        source: AsyncVolume | str | None = None,
        hints: Mapping[str, Any] | None = None,
    ) -> AsyncVolume:
        """A new volume, empty or with the content of a snapshot or of another volume (then the size may be left out).
        It is accepted when this returns; `ready` waits until it is there. Raises HandleError."""
        asked = {
            "size": size_gib,
            "name": name,
            "description": description,
            "volume_type": volume_type,
            "availability_zone": availability_zone,
            "metadata": dict(metadata) if metadata else None,
            "snapshot_id": _id_of(snapshot),
            "source_volid": _id_of(source),
        }
        body: dict[str, Any] = {"volume": {key: value for key, value in asked.items() if value is not None}}
        if hints:
            body["OS-SCH-HNT:scheduler_hints"] = dict(hints)
        return AsyncVolume(self._session, (await self._session.call("POST", "/volumes", body))["volume"])

    async def volume(self, volume: str) -> AsyncVolume:
        """The volume of this id or, if there is none, of this name. Raises MissingError, RefusedError (several have
        the name), HandleError."""
        return AsyncVolume(self._session, await _find(self._session, "volumes", volume))

    async def volumes(self, **filters: str) -> list[AsyncVolume]:
        """The project's volumes, newest first; `filters` are those of the API, as `status="available"`."""
        return [AsyncVolume(self._session, item) for item in await _all(self._session, "volumes", filters)]

    async def snapshot(self, snapshot: str) -> AsyncSnapshot:
        """The snapshot of this id or, if there is none, of this name. Raises MissingError, RefusedError (several have
        the name), HandleError."""
        return AsyncSnapshot(self._session, await _find(self._session, "snapshots", snapshot))

    async def snapshots(self, **filters: str) -> list[AsyncSnapshot]:
        """The project's snapshots, newest first."""
        return [AsyncSnapshot(self._session, item) for item in await _all(self._session, "snapshots", filters)]


@dataclass(eq=False)
class _Resource:
    """A resource of the API. `seen` is its JSON as last seen."""

    session: Session = field(repr=False)
    seen: dict[str, Any]

    _collection: ClassVar[str]
    _one: ClassVar[str]
    _working: ClassVar[tuple[str, ...]]

    @property
    def id(self) -> str:
        """Its UUID."""
        return str(self.seen["id"])

    @property
    def name(self) -> str | None:
        """Its name; nothing says that names are unique."""
        return self.seen["name"] or None

    @property
    def status(self) -> str:
        """Its status as last seen, as `available`."""
        return str(self.seen["status"])

    @property
    def size_gib(self) -> int:
        """Its size in GiB as last seen."""
        return int(self.seen["size"])

    async def refresh(self) -> Self:
        """Look at it again. Raises MissingError."""
        self.seen = (await self.session.call("GET", f"/{self._collection}/{self.id}"))[self._one]
        return self

    async def ready(self, timeout: float = READY_SECONDS) -> Self:
        """Wait until nothing is under way. Raises FailedError with the reason, NotInTimeError, MissingError."""
        deadline, wait = time.monotonic() + timeout, _FIRST_WAIT
        while self.status in self._working:
            if time.monotonic() > deadline:
                raise NotInTimeError(f"{self._one} {self.id} is still {self.status} after {timeout:g} s")
            await asyncio.sleep(wait)
            wait = min(wait * 1.5, _LONGEST_WAIT)
            await self.refresh()
        if self.status.startswith("error"):
            raise FailedError(f"{self._one} {self.id} is {self.status}: {await self._why()}")
        return self

    async def delete(self, *, wait: bool = True, timeout: float = READY_SECONDS) -> None:
        """Delete it, and `wait` until it is gone. One that is gone already is no error. Raises RefusedError (in use),
        FailedError, NotInTimeError."""
        try:
            await self.session.call("DELETE", f"/{self._collection}/{self.id}")
            while wait:
                await self.refresh()
                await self.ready(timeout)
                if self.status not in self._working:
                    raise FailedError(f"{self._one} {self.id} was not deleted: {await self._why()}")
        except MissingError:
            return

    async def _why(self) -> str:
        """What the last message about it says."""
        query = urlencode({"resource_uuid": self.id, "limit": 1})
        found = (await self.session.call("GET", f"/messages?{query}"))["messages"]
        return str(found[0]["user_message"]) if found else "no message says why; look at `pumice logs`"


class AsyncVolume(_Resource):
    """A volume."""

    _collection, _one = "volumes", "volume"
    _working = ("creating", "extending", "deleting", "attaching", "detaching", "downloading", "restoring-backup")

    def __reduce__(self) -> tuple[Any, ...]:
        return AsyncVolume, (self.session, self.seen)

    @property
    def host(self) -> str | None:
        """The Pumice host (label `pumice.io/host`) on which its bytes are; None before it is placed."""
        where = self.seen.get("os-vol-host-attr:host")
        return None if where is None else str(where).partition("@")[0]

    def locality(self) -> dict[str, Any]:
        """Options for a Ray task or actor that is to run where the bytes are:
        `work.options(**volume.locality()).remote(volume)`. Raises HandleError while nobody knows where they are."""
        if self.host is None:
            raise HandleError(f"volume {self.id} has no host yet, or you may not see it; wait with ready()")
        return {"label_selector": {HOST_LABEL: self.host}}

    async def snapshot(self, name: str | None = None, *, description: str | None = None) -> AsyncSnapshot:
        """A snapshot of what it holds now; it is accepted when this returns. Raises HandleError."""
        body = {"snapshot": {"volume_id": self.id, "name": name, "description": description}}
        return AsyncSnapshot(self.session, (await self.session.call("POST", "/snapshots", body))["snapshot"])

    async def clone(self, name: str | None = None, *, size_gib: int | None = None) -> AsyncVolume:
        """A writable copy of what it holds now. Raises HandleError."""
        return await AsyncClient(self.session).create_volume(size_gib, name=name, source=self)

    async def extend(self, size_gib: int, timeout: float = READY_SECONDS) -> Self:
        """Make it `size_gib` GiB large, and wait until it is. Raises HandleError."""
        await self._act("os-extend", {"new_size": size_gib})
        await self.refresh()
        return await self.ready(timeout)

    async def set_metadata(self, **values: str) -> None:
        """Add to its metadata. Raises HandleError."""
        await self.session.call("POST", f"/volumes/{self.id}/metadata", {"metadata": values})

    @asynccontextmanager
    async def mounted(self, mode: Mode = "rw", *, filesystem: str = "ext4") -> AsyncIterator[Path]:
        """The volume's files: a directory, for as long as the block lasts; on another node than the volume's
        (`locality`) where its backend has the export `nbd`. An empty volume gets a file system first (`rw` only). When
        this process dies, the volume is detached all the same. Needs root on the node. Raises HandleError."""
        from actors.handles.mounting import mount, unmount

        claim = await mount(self.session, self.id, mode, filesystem)
        try:
            yield claim.path
        finally:
            await asyncio.shield(unmount(claim))

    async def fan_out(
        self, n: int, *, per: Literal["node", "cluster"] = "cluster", keep_snapshot: bool = False
    ) -> list[AsyncVolume]:
        """`n` writable copies of what it holds now, made from one snapshot: instant where the backend can share it.
        With `per="node"`: n copies for each living node of the cluster, named after it. Copies live where the volume
        is; they are ready when this returns. Raises HandleError; copies made so far are deleted then."""
        from actors.handles.mounting import node_hosts

        wanted = [f"{self.name or self.id}-{number}" for number in range(n)]
        if per == "node":
            wanted = [f"{name}-{host}" for host in await node_hosts() for name in wanted]
        snapshot = await (await self.snapshot(f"fan-out of {self.name or self.id}")).ready()
        made: list[AsyncVolume] = []
        try:
            client = AsyncClient(self.session)
            for name in wanted:
                copy = await client.create_volume(name=name, snapshot=snapshot)
                made.append(copy)
            await asyncio.gather(*(copy.ready() for copy in made))
        except BaseException:
            # One that is still being made cannot be deleted: first it has to be whatever it becomes.
            await asyncio.gather(*(copy.ready() for copy in made), return_exceptions=True)
            await asyncio.gather(*(copy.delete() for copy in made), return_exceptions=True)
            raise
        finally:
            if not keep_snapshot:
                await snapshot.delete()
        return made

    async def _act(self, action: str, values: Mapping[str, Any]) -> None:
        await self.session.call("POST", f"/volumes/{self.id}/action", {action: dict(values)})


class AsyncSnapshot(_Resource):
    """A snapshot: what a volume held at one moment."""

    _collection, _one = "snapshots", "snapshot"
    _working = ("creating", "deleting")

    def __reduce__(self) -> tuple[Any, ...]:
        return AsyncSnapshot, (self.session, self.seen)

    @property
    def volume_id(self) -> str:
        """The volume it is of."""
        return str(self.seen["volume_id"])

    async def clone(self, name: str | None = None, *, size_gib: int | None = None) -> AsyncVolume:
        """A writable volume with its content. Raises HandleError."""
        return await AsyncClient(self.session).create_volume(size_gib, name=name, snapshot=self)


def _id_of(resource: _Resource | str | None) -> str | None:
    return resource.id if isinstance(resource, _Resource) else resource


async def _find(session: Session, collection: str, wanted: str) -> dict[str, Any]:
    if _is_id(wanted):
        with contextlib.suppress(MissingError):  # a name may look like an id
            found: dict[str, Any] = await session.call("GET", f"/{collection}/{wanted}")
            return dict(found[collection.removesuffix("s")])
    named = await _all(session, collection, {"name": wanted})
    if not named:
        raise MissingError(f"there are no {collection} with the id or name {wanted!r} in this project")
    if len(named) > 1:
        ids = ", ".join(one["id"] for one in named)
        raise RefusedError(f"there are {len(named)} {collection} with the name {wanted!r}; name one by its id: {ids}")
    return named[0]


def _is_id(text: str) -> bool:
    try:
        return str(uuid.UUID(text)) == text
    except ValueError:
        return False


async def _all(session: Session, collection: str, filters: Mapping[str, str]) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = []
    while True:
        query = {**filters, **({"marker": items[-1]["id"]} if items else {})}
        page = await session.call("GET", f"/{collection}/detail?{urlencode(query)}")
        items += page[collection]
        if f"{collection}_links" not in page:
            return items
