"""The export `iscsi`: a target in user space (tgtd) for each connection, with CHAP, for one initiator name.

One tgtd a volume actor, on a port of its own, and on one more for each connection with limits (the network keeps them,
see tgt_portals.py), controlled by a socket in its directory. It outlives the volume actor and
is found again; when it dies, the next call starts it on the same port, and whoever calls makes the connections again.
The target's name says connection and volume, so tgtd itself is the record of what is served.

tgtd lets in whoever is on the list of addresses *or* of names, so only the name is listed; the password does the rest.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import re
from collections.abc import Awaitable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, TypeVar

from drivers.export_registry import ExportKind
from drivers.exports import ports
from drivers.exports.daemon import Daemon
from drivers.exports.options import IscsiOptions
from drivers.exports.place import Node, ensure_directory, own_directory
from drivers.exports.tgt_control import NO_LUN, Fault, Mode, Operation, TgtControl, TgtError
from drivers.exports.tgt_portals import OwnPortals
from drivers.exports.tgt_targets import Target, parse, shown_size
from drivers.exports.uninterrupted import uninterrupted
from drivers.reflink import durable
from drivers.vocabulary import (
    UNLIMITED,
    AccessMode,
    BackendUnavailableError,
    ConnectionInfo,
    ConnectionItem,
    ConnectionSpec,
    Limits,
    Portal,
    SourceMissingError,
    UncertainError,
    UnsupportedError,
    checked_id,
)

T = TypeVar("T")

_LUN: Final = 1
_INITIATOR: Final = re.compile(r"(iqn|eui|naa)\.[A-Za-z0-9.:_-]{1,219}")
_UUID_LENGTH: Final = 36
_ENDING_SECONDS: Final = 30.0
_IOTHREADS: Final = 4  # a target's; tgtd's own default is 16
_PACKAGE: Final = "tgt"
_NAME: Final = "tgtd"
# The kernel hands over 64 KiB at once and forgets debts after 60 s, so that it cannot keep slower ones.
_LEAST_READ_BYTES: Final = 2048
PROGRAM: Final = "tgtd"
_CONTROL: Final = "tgtd.0"
SOCKETS: Final = (_CONTROL,)


class IscsiExport:
    """Implements `drivers.protocols.Export`. `directory` is its own; `node` is where it runs."""

    protocol: Final = "iscsi"

    def __init__(self, options: IscsiOptions, directory: Path, node: Node) -> None:
        self._options = options
        self._own_directory = directory
        self._directory = (options.directory or directory).absolute()
        self._node = node
        self._tgt = TgtControl(self._directory / "tgtd.0")
        self._portal: Portal | None = None
        self._own_portals = OwnPortals(options, self._directory / "portals", self._tgt)
        self._one_at_a_time = asyncio.Lock()

    async def open(self) -> None:
        """Find tgtd or start it. Raises BackendUnavailableError."""
        await asyncio.to_thread(self._open)

    def _open(self) -> None:
        try:
            ensure_directory(self._own_directory, self._directory)
            record, address = self._directory / "port", self._directory / "address"
            if record.exists():
                self._portal = Portal(self._own_address(address), int(record.read_text(encoding="ascii")))
                durable.write_whole(address, self._portal.address)
                self._daemon().ensure()
                return
            self._daemon().end()  # one that runs without a record is on a port that nobody was told
            durable.write_whole(address, self._options.address)
            port = ports.first_that_serves(
                ports.Range(self._options.address, self._options.port_first, self._options.port_last),
                (),
                lambda port: self._daemon(Portal(self._options.address, port)).ensure(),
            )
            durable.write_whole(record, str(port))
            self._portal = Portal(self._options.address, port)
        except OSError as error:
            raise BackendUnavailableError(f"cannot write in {self._directory}: {error}") from error

    def _own_address(self, record: Path) -> str:
        """Where tgtd listens: one that runs stays where its consumers know it, whatever the options say by now."""
        if record.exists() and self._daemon().pid() is not None:
            return record.read_text(encoding="ascii")
        return self._options.address

    def _daemon(self, portal: Portal | None = None) -> Daemon:
        at = portal or self._portal or Portal(self._options.address, 0)
        return Daemon(
            _NAME,
            self._directory,
            [
                *(PROGRAM, "-f", "-C", "0", "-t", str(_IOTHREADS)),
                *("--iscsi", f"portal={ports.joined(at.address, at.port)}"),
            ],
            package=_PACKAGE,
            control=self._directory / _CONTROL,
            says_pid=False,
            environment={"TGT_IPC_SOCKET": str(self._directory / "tgtd")},
        )

    async def close(self) -> None:
        """Nothing is held between calls; tgtd goes on serving."""

    async def end(self) -> None:
        """See `Ends`."""
        await asyncio.to_thread(lambda: self._daemon().end())

    def serves(self, connector: Mapping[str, Any]) -> bool:
        """Consumers that have an initiator name (RFC 3721) and can reach the address."""
        initiator = connector.get("initiator")
        named = isinstance(initiator, str) and _INITIATOR.fullmatch(initiator) is not None
        return named and (self._options.is_reachable or self._node.has(connector))

    def cannot_keep(self, limits: Limits) -> str:
        """See `Export`. tgtd itself knows no limits; the network can slow down what leaves the node, which is what a
        consumer reads, and counts bytes."""
        if replace(limits, read_bytes=None) != UNLIMITED:
            return "iscsi can limit nothing but read_bytes_sec; use nbd"
        if limits.read_bytes is not None and limits.read_bytes < _LEAST_READ_BYTES:
            return f"iscsi keeps no read_bytes_sec below {_LEAST_READ_BYTES}; use nbd"
        return ""

    async def ensure_connection(self, spec: ConnectionSpec, path: Path) -> ConnectionInfo:
        """See `Export`."""
        checked_id(spec.id)
        checked_id(spec.volume_id)
        if because := self.cannot_keep(spec.limits):
            raise UnsupportedError(f"connection {spec.id}: its limits cannot be kept: {because}")
        if not self.serves(spec.connector):
            raise UnsupportedError(f"connection {spec.id}: iscsi needs the consumer's initiator name and a way to it")
        return await self._alone(self._ensure(spec, await asyncio.to_thread(path.absolute)))

    async def _ensure(self, spec: ConnectionSpec, path: Path) -> ConnectionInfo:
        if "," in str(path) or not await asyncio.to_thread(path.exists):
            raise SourceMissingError(f"volume {spec.volume_id} is not where tgtd could take it from")
        await self.open()
        password, portal = _password(spec.secret), self._portal
        if portal is None:
            raise BackendUnavailableError("tgtd listens nowhere")
        try:
            found = await self._find(spec.id)
            own = await asyncio.to_thread(self._own_portals.port, spec.id)
            if own is not None or spec.limits != UNLIMITED:
                if own is None and found is not None:
                    raise UnsupportedError(
                        f"connection {spec.id} was let in without limits, at a port that it shares; detach the volume "
                        "and attach it again"
                    )
                portal = await self._own_portals.ensure(spec.id, portal.address)
            if found is None or not _is_whole(found, spec, path):
                if found is not None:
                    await self._end(found, spec.id)
                await self._make(spec, path, password)
        except TgtError as error:
            await self._tidy(spec.id)
            raise BackendUnavailableError(f"connection {spec.id}: {error}") from error
        told = ports.joined(self._options.advertised_address or portal.address, portal.port)
        return ConnectionInfo(
            "iscsi",
            {
                "target_discovered": False,
                "target_portal": told,
                "target_iqn": self._name(spec.id, spec.volume_id),
                "target_lun": _LUN,
                "auth_method": "CHAP",
                "auth_username": spec.id,
                "auth_password": password,
                "volume_id": spec.volume_id,
                "discard": True,
                "access_mode": spec.mode.value,
            }
            | (_alone_at(told, self._name(spec.id, spec.volume_id)) if portal != self._portal else {}),
        )

    async def _make(self, spec: ConnectionSpec, path: Path, password: str) -> None:
        taken = {target.number for target in await self._targets()}
        number = next(number for number in range(1, len(taken) + 2) if number not in taken)
        await self._tgt(Mode.TARGET, Operation.NEW, f"targetname={self._name(spec.id, spec.volume_id)}", target=number)
        await self._add_lun(number, spec.volume_id, path, read_only=spec.mode is AccessMode.READ_ONLY)
        await self._forget_account(spec.id)  # one of an earlier life may have another password
        await self._tgt(Mode.ACCOUNT, Operation.NEW, f"user={spec.id},password={password}")
        await self._tgt(Mode.ACCOUNT, Operation.BIND, f"user={spec.id}", target=number)
        # Crash window: nobody is let in before this last step, and a repeat makes the target anew.
        await self._tgt(Mode.TARGET, Operation.BIND, f"initiator-name={spec.connector['initiator']}", target=number)

    async def _add_lun(self, number: int, volume_id: str, path: Path, *, read_only: bool) -> None:
        # Empty first: with the path, it would be writable until it is told otherwise.
        await self._tgt(Mode.DEVICE, Operation.NEW, "bstype=rdwr", target=number, lun=_LUN)
        await self._tgt(
            Mode.DEVICE,
            Operation.UPDATE,
            f"vendor_id=PUMICE,product_id=VOLUME,scsi_id={volume_id},scsi_sn={volume_id},thin_provisioning=1,"
            f"readonly={int(read_only)},removable=0,path={path}",
            target=number,
            lun=_LUN,
        )

    async def ensure_connection_absent(self, connection_id: str, volume_id: str) -> None:
        """See `Export`."""
        checked_id(connection_id)
        checked_id(volume_id)
        await self._alone(self._remove(connection_id))

    async def _remove(self, connection_id: str) -> None:
        if await asyncio.to_thread(self._daemon().pid) is None:
            await asyncio.to_thread(self._own_portals.forget, connection_id)
            return
        try:
            await self._remove_target(connection_id)
            address = self._portal.address if self._portal is not None else self._options.address
            await self._own_portals.remove(connection_id, address)
        except TgtError as error:
            raise UncertainError(f"connection {connection_id}: {error}; the same call must be repeated") from error

    async def _remove_target(self, connection_id: str) -> None:
        found = await self._find(connection_id)
        if found is not None:
            await self._end(found, connection_id)
        await self._forget_account(connection_id)

    async def connections(self) -> list[ConnectionItem]:
        """See `Export`."""
        if await asyncio.to_thread(self._daemon().pid) is None:
            return []
        return [item for target in await self._targets() if (item := self._item(target)) is not None]

    async def portal(self, connection_id: str) -> Portal | None:
        """See `Portals`: one for all, and one each for connections that were let in with limits."""
        own = await asyncio.to_thread(self._own_portals.port, checked_id(connection_id))
        return self._portal if own is None or self._portal is None else replace(self._portal, port=own)

    def by_network(self, limits: Limits) -> Limits:
        """See `Portals`."""
        return Limits(read_bytes=limits.read_bytes)

    async def resized(self, volume_id: str, path: Path) -> None:
        """See `Export`. tgtd cannot grow a LUN: sessions are ended, the LUN is made again, and initiators, which come
        back by themselves after two seconds and repeat what was under way, see the new size."""
        checked_id(volume_id)
        await self._alone(self._resize(volume_id, await asyncio.to_thread(path.absolute)))

    async def _resize(self, volume_id: str, path: Path) -> None:
        if await asyncio.to_thread(self._daemon().pid) is None:
            return
        wanted = shown_size((await asyncio.to_thread(path.stat)).st_size)
        try:
            for target in await self._targets():
                item = self._item(target)
                if item is None or item.volume_id != volume_id or target.lun.get("Size", "").startswith(f"{wanted},"):
                    continue
                read_only = target.lun.get("Readonly") == "Yes"
                await self._end_sessions(target)
                await self._insist(Mode.DEVICE, target.number, lun=_LUN)
                # Crash window: a target without its LUN, which a repeat of `ensure_connection` makes anew.
                await self._add_lun(target.number, volume_id, path, read_only=read_only)
        except TgtError as error:
            raise UncertainError(f"growing volume {volume_id}: {error}; the same call must be repeated") from error

    async def _end(self, target: Target, connection_id: str) -> None:
        """No such target: nobody new is let in, sessions are ended, then it goes."""
        for initiator in target.admitted:
            await self._ignoring(
                Fault.ACL_NOEXIST, Mode.TARGET, Operation.UNBIND, f"initiator-name={initiator}", target=target.number
            )
        await self._forget_account(connection_id)
        await self._end_sessions(target)
        await self._insist(Mode.TARGET, target.number)

    async def _end_sessions(self, target: Target) -> None:
        deadline = asyncio.get_running_loop().time() + _ENDING_SECONDS
        while sessions := [s for now in await self._targets() if now.number == target.number for s in now.sessions]:
            for session, connection in sessions:
                try:
                    await self._tgt(
                        Mode.CONNECTION,
                        Operation.DELETE,
                        target=target.number,
                        session=session,
                        connection=connection,
                    )
                except TgtError as error:
                    if error.number not in (Fault.NO_SESSION, Fault.NO_CONNECTION):
                        raise
            if asyncio.get_running_loop().time() > deadline:
                raise UncertainError(f"sessions of {target.name} do not end; the same call must be repeated")
            await asyncio.sleep(0.01)

    async def _insist(self, mode: Mode, number: int, lun: int = NO_LUN) -> None:
        """Delete, as often as commands under way forbid it."""
        deadline = asyncio.get_running_loop().time() + _ENDING_SECONDS
        while True:
            try:
                await self._tgt(mode, Operation.DELETE, target=number, lun=lun, force=True)
            except TgtError as error:
                if error.number in (Fault.NO_TARGET, Fault.NO_LUN):
                    return
                busy = error.number in (Fault.LUN_ACTIVE, Fault.TARGET_ACTIVE)
                if not busy or asyncio.get_running_loop().time() > deadline:
                    raise
                await asyncio.sleep(0.01)
            else:
                return

    async def _forget_account(self, user: str) -> None:
        await self._ignoring(Fault.NO_USER, Mode.ACCOUNT, Operation.DELETE, f"user={user}")

    async def _ignoring(self, fault: Fault, mode: Mode, operation: Operation, text: str, *, target: int = -1) -> None:
        try:
            await self._tgt(mode, operation, text, target=target)
        except TgtError as error:
            if error.number != fault:
                raise

    async def _tidy(self, connection_id: str) -> None:
        try:
            await self._remove_target(connection_id)  # its portal stays, which its consumer may have been told
        except (TgtError, UncertainError, BackendUnavailableError):
            return  # the error that led here is the one to tell; a repeat tidies first

    async def _find(self, connection_id: str) -> Target | None:
        for target in await self._targets():
            item = self._item(target)
            if item is not None and item.id == connection_id:
                return target
        return None

    async def _targets(self) -> list[Target]:
        return parse(await self._tgt(Mode.TARGET, Operation.SHOW))

    def _name(self, connection_id: str, volume_id: str) -> str:
        return f"{self._options.iqn_prefix}:{volume_id}.{connection_id}"

    def _item(self, target: Target) -> ConnectionItem | None:
        volume_id, _, connection_id = target.name.removeprefix(f"{self._options.iqn_prefix}:").partition(".")
        if len(volume_id) != _UUID_LENGTH or len(connection_id) != _UUID_LENGTH:
            return None
        return ConnectionItem(connection_id, volume_id)

    async def _alone(self, work: Awaitable[T]) -> T:
        return await uninterrupted(self._one_at_a_time, work)


def _is_whole(target: Target, spec: ConnectionSpec, path: Path) -> bool:
    return (
        target.admitted == [spec.connector["initiator"]]
        and target.accounts == [spec.id]
        and target.lun.get("Backing store path") == str(path)
        and (target.lun.get("Readonly") == "Yes") == (spec.mode is AccessMode.READ_ONLY)
    )


def _alone_at(portal: str, name: str) -> dict[str, Any]:
    """That there is this way and no other, so that a consumer with several paths looks for none (os-brick does)."""
    return {"target_portals": [portal], "target_iqns": [name], "target_luns": [_LUN]}


def _password(secret: str) -> str:
    """The CHAP password: of the secret, which itself is given to no initiator. 32 characters."""
    return hmac.new(bytes.fromhex(secret), b"pumice iscsi chap", hashlib.sha256).hexdigest()[:32]


EXPORT: Final = ExportKind(
    IscsiOptions,
    lambda options, state_dir, backend, host: IscsiExport(
        options, own_directory(state_dir, backend, "iscsi"), Node(host)
    ),
)
