"""Mounting volumes on one node for its processes: the plain class behind the node actor; no Ray.

A claim goes: its file, the attachment, the device, the mount; and back in the opposite order. Each step can be
repeated, and what a claim left is found from its file, from the system, and from the attachment that has its id. So
whichever process is killed when: as soon as the owner of a claim is gone or does not want it any more, so is everything
of the claim, or it is tried again until it is.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Final, ParamSpec, TypeVar

import structlog

from actors.handles.errors import FailedError, HandleError, MissingError, RefusedError
from actors.handles.session import Session
from actors.node_claims import Claim, ClaimFiles, Owner
from drivers.attach import devices, filesystems
from drivers.attach.clearing import mount_point
from drivers.attach.filesystems import BusyError, LostWritesError
from drivers.attach.programs import AttachError
from drivers.kernel import boot_id
from drivers.reflink.keyed_locks import KeyedLocks
from drivers.vocabulary import AccessMode

P = ParamSpec("P")
T = TypeVar("T")

log = structlog.get_logger()
_LOOK_SECONDS: Final = 1.0
_AGAIN_SECONDS: Final = 4.0
_THREADS: Final = 64


class NodeHost:
    """`connector` is what os-brick would say of this node; `abandon` has the control side detach what carries a claim's
    id, without anybody's credentials."""

    def __init__(
        self, directory: Path, connector: Mapping[str, Any], abandon: Callable[[str], Awaitable[None]]
    ) -> None:
        self._directory = directory
        self._connector = dict(connector)
        self._abandon = abandon
        self._files = ClaimFiles(directory / "claims")
        self._claims: dict[str, Claim] = {}
        self._turns = KeyedLocks()
        self._lost: dict[str, tuple[Owner, LostWritesError]] = {}
        self._releasing: dict[str, asyncio.Task[None]] = {}
        self._unattended = ""
        # Of its own: those that wait for a volume whose node is gone must not hold up the others.
        self._threads = ThreadPoolExecutor(_THREADS, "claim")

    async def open(self) -> None:
        """Take up the claims of an earlier life; to be called before anything else."""
        for claim in await self._in_thread(self._files.all):
            self._claims[claim.id] = claim

    async def serve(self) -> None:
        """Release what has lost its owner, or is not wanted by it, until cancelled."""
        while True:
            for claim in [one for one in self._claims.values() if _is_to_go(one)]:
                if claim.id not in self._releasing:
                    # Each by itself: one whose files are still open by somebody must not hold up the others.
                    self._releasing[claim.id] = asyncio.create_task(self._release(claim), name=f"release {claim.id}")
            self._lost = {claim_id: one for claim_id, one in self._lost.items() if one[0].lives()}
            await self._in_thread(self._attend, list(self._claims))
            await asyncio.sleep(_LOOK_SECONDS)

    def _attend(self, claim_ids: Collection[str]) -> None:
        trouble = ""
        for claim_id in claim_ids:
            try:
                devices.attend(self._directory, claim_id)
            except AttachError as error:
                trouble = str(error)
        if trouble != self._unattended:
            self._unattended = trouble
            log.warning("node.silence_not_limited", error=trouble or "it is now")

    async def _in_thread(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, partial(work, *args, **kwargs))

    async def _release(self, claim: Claim) -> None:
        try:
            async with self._turns.holding(claim.id):
                now = self._claims.get(claim.id)
                if now is not None and _is_to_go(now):
                    await self._let_go(now)
        except Exception as error:  # tried again, for as long as it takes
            log.warning("node.not_released", claim=claim.id, volume_id=claim.volume_id, error=str(error))
            await asyncio.sleep(_AGAIN_SECONDS)
        finally:
            del self._releasing[claim.id]

    async def mount(
        self, claim_id: str, session: Session, volume_id: str, mode: AccessMode, filesystem: str | None, owner: Owner
    ) -> str:
        """The directory at which the volume is mounted for `owner`. Raises HandleError; then nothing is left."""
        async with self._turns.holding(claim_id):
            claim = self._claims[claim_id] = Claim(claim_id, volume_id, mode.value, owner, boot_id())
            try:
                # Written before the attachment is asked for: whoever finds it also finds an attachment it led to.
                await self._in_thread(self._files.write, claim)
                return await self._mount(claim, session, mode, filesystem)
            except BaseException as error:
                with contextlib.suppress(Exception):  # else the loop does it
                    await asyncio.shield(self._end(claim, session))
                if isinstance(error, AttachError):
                    raise FailedError(f"volume {volume_id} was not mounted: {error}") from error
                raise

    async def _mount(self, claim: Claim, session: Session, mode: AccessMode, filesystem: str | None) -> str:
        wanted = {"volume_uuid": claim.volume_id, "instance_uuid": claim.id, "mode": mode.value}
        asked = {**wanted, "connector": {**self._connector, "mode": mode.value}}
        made = (await session.call("POST", "/attachments", {"attachment": asked}))["attachment"]
        await self._refuse_others(claim, session, made["id"])
        info = dict(made["connection_info"])
        kind = info["driver_volume_type"]
        device = await self._in_thread(devices.ensure, self._directory, claim.id, kind, info, mode)
        directory, scratch = mount_point(self._directory, claim.id), devices.scratch_file(self._directory, claim.id)
        await self._in_thread(filesystems.ensure_mounted, device, directory, mode, filesystem, scratch)
        await session.call("POST", f"/attachments/{made['id']}/action", {"os-complete": {}})
        log.info("node.mounted", claim=claim.id, volume_id=claim.volume_id, attachment=made["id"])
        return str(directory)

    async def _refuse_others(self, claim: Claim, session: Session, attachment_id: str) -> None:
        """A file system has one writer, or readers only: a volume that may be attached several times (multiattach) is
        refused here. Asked after the attachment is there, so of two that come at once at least one is refused."""
        asked = f"/attachments/detail?volume_id={claim.volume_id}&all_tenants=1"
        there = (await session.call("GET", asked))["attachments"]
        others = [one for one in there if one["id"] != attachment_id]
        if others and not all(one["attach_mode"] == AccessMode.READ_ONLY for one in there):
            raise RefusedError(
                f"volume {claim.volume_id} is attached elsewhere ({others[0]['id']}); a file system can be mounted "
                "several times for reading only"
            )

    async def unmount(self, claim_id: str, session: Session) -> None:
        """Nothing of the claim is left, and the volume is free. Releasing nothing succeeds. Raises RefusedError when
        files are open: it is released when they are closed, and whoever calls again is told; FailedError, also when all
        is released and not all that was written has reached the volume; HandleError."""
        try:
            async with self._turns.holding(claim_id):
                claim = self._claims.get(claim_id)
                if claim is not None:
                    await self._end(claim, session)
            _, lost = self._lost.pop(claim_id, (None, None))
            if lost is not None:
                raise lost
        except BusyError as error:
            raise RefusedError(str(error)) from error
        except AttachError as error:
            raise FailedError(str(error)) from error

    async def _end(self, claim: Claim, session: Session) -> None:
        """Let go of what the owner does not want. If that fails, it is known of the claim, also in another life."""
        claim = self._claims[claim.id] = replace(claim, unwanted=True)
        try:
            await self._in_thread(self._files.write, claim)
        except OSError as error:  # this life knows it
            log.warning("node.not_written", claim=claim.id, volume_id=claim.volume_id, error=str(error))
        await self._let_go(claim, session)

    async def _let_go(self, claim: Claim, session: Session | None = None) -> None:
        """Nothing of the claim is left. To be called by whose turn it is."""
        await self._unmount(claim)
        await self._in_thread(devices.ensure_absent, self._directory, claim.id)
        if session is not None:
            await self._detach(claim, session)
        else:
            await self._abandon(claim.id)
        await self._in_thread(self._files.remove, claim.id)
        del self._claims[claim.id]
        log.info("node.released", claim=claim.id, volume_id=claim.volume_id)

    async def _unmount(self, claim: Claim) -> None:
        """What was lost is kept for whoever ends the claim: the steps after this one may have to be repeated."""
        cut = partial(devices.cut, self._directory, claim.id)
        try:
            await self._in_thread(filesystems.ensure_unmounted, mount_point(self._directory, claim.id), cut)
        except LostWritesError as error:
            self._lost[claim.id] = claim.owner, error
            log.warning("node.lost_writes", claim=claim.id, volume_id=claim.volume_id, error=str(error))

    async def _detach(self, claim: Claim, session: Session) -> None:
        try:
            # An administrator's attachment of a volume of another project belongs to that project.
            found = await session.call("GET", f"/attachments?instance_id={claim.id}&all_tenants=1")
            for attachment in found["attachments"]:
                with contextlib.suppress(MissingError):
                    await session.call("DELETE", f"/attachments/{attachment['id']}")
        except HandleError as error:
            log.warning("node.not_detached", claim=claim.id, error=str(error))
            await self._abandon(claim.id)
        else:
            if not found["attachments"]:  # none there, or none that this caller may see
                await self._abandon(claim.id)


def _is_to_go(claim: Claim) -> bool:
    return claim.unwanted or claim.boot != boot_id() or not claim.owner.lives()
