"""QEMU's user-space initiators: how qemu-io and qemu-img open what a connection info tells.

They reach a device, NBD (TLS-PSK too) and iSCSI (CHAP) without the kernel's help. Keys and passwords go by files, never
by arguments, which everybody on the machine may read.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class Target:
    """How QEMU is told of a connection: `image` is what it opens, `objects` are keys and passwords, by files."""

    image: str
    objects: tuple[str, ...] = ()
    is_image_options: bool = True

    def arguments(self) -> list[str]:
        """Options of qemu-io and qemu-img, without the image."""
        found = [part for item in self.objects for part in ("--object", item)]
        return [*found, *(["--image-opts"] if self.is_image_options else ["-f", "raw"])]


def of_info(info: Mapping[str, Any], initiator: str, directory: Path) -> Target:
    """What an attachment's connection info tells, for a consumer of this initiator name; secrets go into `directory`.
    Raises ValueError for a protocol that QEMU does not speak."""
    kind = info["driver_volume_type"]
    if kind == "local":
        return device(Path(info["device_path"]))
    if kind == "iscsi":
        return iscsi(info, info["auth_username"], info["auth_password"], initiator, directory)
    if kind != "nbd":
        raise ValueError(f"QEMU does not open {kind!r}")
    if info["transport"] == "unix":
        return nbd_by_socket(info)
    return nbd_by_tls(info, info["psk_identity"], info["psk_key"], info["export"], directory)


def device(path: Path) -> Target:
    """A device or file of this machine."""
    return Target(str(path), is_image_options=False)


def nbd_by_socket(info: Mapping[str, Any]) -> Target:
    """By socket and export."""
    return Target(f"driver=nbd,server.type=unix,server.path={info['socket']},export={info['export']}")


def nbd_by_tls(info: Mapping[str, Any], identity: str, key: str, export: str, directory: Path) -> Target:
    """By address, with the key from a file."""
    keys = secret_file(directory, "keys.psk", f"{identity}:{key}\n")
    return Target(
        f"driver=nbd,server.type=inet,server.host={info['host']},server.port={info['port']},"
        f"export={export},tls-creds=tls",
        (f"tls-creds-psk,id=tls,endpoint=client,dir={keys.parent},username={identity}",),
    )


def iscsi(info: Mapping[str, Any], user: str, password: str, initiator: str, directory: Path) -> Target:
    """By portal and name, with the password from a file."""
    secret = secret_file(directory, "password", password)
    return Target(
        f"driver=iscsi,transport=tcp,portal={info['target_portal']},target={info['target_iqn']},"
        f"lun={info['target_lun']},user={user},password-secret=chap,initiator-name={initiator}",
        (f"secret,id=chap,file={secret}",),
    )


def secret_file(directory: Path, name: str, text: str) -> Path:
    """A file for its owner only, in a new directory of `directory`."""
    path = Path(tempfile.mkdtemp(dir=directory, prefix="consumer-")) / name
    path.touch(0o600)
    path.write_text(text, encoding="ascii")
    return path
