"""A block device on this node for a connection: the device of a local export, or an NBD export by nbdfuse and loop.

Blocking code. A claim's device is found again from the system alone: loop devices carry the claim in their tag, and
nbdfuse is mounted in the claim's directory. Steps are safe to repeat, and each is undone if it is there.
"""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from drivers.attach.filesystems import AttachError, is_mounted
from drivers.exports import loop_device
from drivers.vocabulary import AccessMode

_NBDFUSE: Final = "nbdfuse"
_APPEAR_SECONDS: Final = 20.0
_VANISH_SECONDS: Final = 10.0
_TAG: Final = "pn"


class Devices:
    """The devices of one node's claims. `directory` holds one folder a claim."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def ensure(self, claim_id: str, kind: str, data: Mapping[str, Any], mode: AccessMode) -> Path:
        """The device over the connection `data` (os-brick's) of the export `kind`. Raises AttachError."""
        if kind == "local":
            path = Path(data["device_path"])
            return path if stat.S_ISBLK(path.stat().st_mode) else self._loop(claim_id, path, mode)
        if kind == "nbd":
            return self._loop(claim_id, self._fuse(claim_id, data, mode), mode)
        raise AttachError(f"volumes of the export {kind!r} cannot be mounted by tasks; local and nbd can")

    def ensure_absent(self, claim_id: str) -> None:
        """No device of the claim is left. Raises AttachError when somebody holds it open."""
        for device in loop_device.bound():
            if device.tag == _tag(claim_id) and not loop_device.unbind(device, _VANISH_SECONDS):
                raise AttachError(f"{device.path} is still open by another process; close what uses it")
        folder = self._directory / claim_id
        self._unfuse(folder)
        shutil.rmtree(folder, ignore_errors=True)

    def claims(self) -> set[str]:
        """The claims of which something is there."""
        folders = {path.name for path in self._directory.glob("*") if path.is_dir()}
        return folders | {found.tag.removeprefix(_TAG) for found in loop_device.bound() if found.tag.startswith(_TAG)}

    def _loop(self, claim_id: str, file: Path, mode: AccessMode) -> Path:
        for found in loop_device.bound():
            if found.tag == _tag(claim_id):
                return found.path
        try:
            return loop_device.bind(file, _tag(claim_id), read_only=mode is AccessMode.READ_ONLY).path
        except OSError as error:
            raise AttachError(f"no loop device over the volume: {error.strerror}; is this process root?") from error

    def _fuse(self, claim_id: str, data: Mapping[str, Any], mode: AccessMode) -> Path:
        folder = self._directory / claim_id
        mounted, log = folder / "nbd", folder / "nbdfuse.log"
        file = mounted / "volume"
        if not is_mounted(mounted):
            mounted.mkdir(mode=0o700, parents=True, exist_ok=True)
            read_only = ["--readonly"] if mode is AccessMode.READ_ONLY else []
            command = ["setsid", "--fork", _NBDFUSE, *read_only, str(file), _uri(folder, data)]
            try:
                with log.open("ab") as output:
                    subprocess.run(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, check=True)
            except FileNotFoundError as error:
                raise AttachError("nbdfuse is not installed on this node; apt-get install nbdfuse") from error
        deadline = time.monotonic() + _APPEAR_SECONDS
        while not (is_mounted(mounted) and file.exists()):
            said = log.read_text(errors="replace").strip() if log.exists() else ""
            if said or time.monotonic() > deadline:
                raise AttachError(f"nbdfuse did not connect: {said.splitlines()[-1] if said else 'it said nothing'}")
            time.sleep(0.02)
        return file

    def _unfuse(self, folder: Path) -> None:
        mounted = folder / "nbd"
        deadline = time.monotonic() + _VANISH_SECONDS
        while is_mounted(mounted):
            done = subprocess.run(["umount", str(mounted)], capture_output=True, text=True, check=False)
            if done.returncode != 0 and time.monotonic() > deadline:
                raise AttachError(f"{mounted} cannot be unmounted: {done.stderr.strip()}")
            time.sleep(0.02)


def _uri(folder: Path, data: Mapping[str, Any]) -> str:
    """The export's URI; its key goes into a file, since processes' arguments are public."""
    if data["transport"] == "unix":
        return str(data["uri"])
    keys = folder / "keys.psk"
    with os.fdopen(os.open(keys, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="ascii") as file:
        file.write(f"{data['psk_identity']}:{data['psk_key']}\n")
    identity, host, port = data["psk_identity"], data["host"], data["port"]
    at = f"[{host}]" if ":" in str(host) else host
    return f"nbds://{identity}@{at}:{port}/{data['export']}?tls-psk-file={keys}"


def _tag(claim_id: str) -> str:
    return f"{_TAG}{claim_id}"
