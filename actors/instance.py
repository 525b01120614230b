"""What an instance of the product is on this machine: its ports, its directories, the mark its processes carry.

No Ray here. Two instances with different state directories run side by side; nothing of one is known to the other.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import socket
import stat
import time
import uuid
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from cluster.settings_file import write_private
from drivers.kernel import boot_id

# Below the kernel's ephemeral ports (32768 up) and above those that Ray gives its workers by default (10002-19999).
_LOWEST, _HIGHEST = 20_000, 32_600
_BLOCK = 200
_TRIES = 50
# The ports that must be free: a node's own (actors.node_environment, actors.head_environment). Of the replicas' Serve
# passes over those that are taken, and for a minute after a kill they are: Serve does not say SO_REUSEADDR.
_FIXED = 12
_FREE_SECONDS = 75.0
# A UNIX socket's path holds 107 bytes, and Ray puts as many as 70 behind this directory's. HAProxy lets it hold 97, and
# Serve puts its own directory, a node's id and a name behind it: `/h/`, 56 digits, `/a`.
_LONGEST = 36


class InstanceError(Exception):
    """The instance cannot have what it needs of this machine; the message says what."""


@dataclass(frozen=True)
class Instance:
    """The places of one instance. `base_port` begins a block of ports; `short_dir` holds its sockets and Ray's session.

    `short_dir` is in the state directory, or in /tmp when that one's path is too long for UNIX sockets. Ray opens its
    own directory to everybody, so that one is a level deeper.
    """

    state_dir: Path
    base_port: int
    short_dir: Path

    @property
    def mark(self) -> str:
        """The value of PUMICE_INSTANCE in the environment of every process that was started for this instance."""
        return mark_of(self.state_dir)

    def port(self, offset: int) -> int:
        """The port at `offset` of the block: 0 is the head's own, 50 to 199 are the replicas'."""
        return self.base_port + offset

    @property
    def ray_dir(self) -> Path:
        """Ray's directory for temporary files: sockets, logs, one folder a session."""
        return self.short_dir / "r"

    @property
    def haproxy_dir(self) -> Path:
        """HAProxy's configuration and sockets."""
        return self.short_dir / "h"

    @property
    def replica_ports(self) -> tuple[int, int]:
        """First and last port for replicas; a released one rests for some minutes before it is used again."""
        return self.port(50), self.port(_BLOCK - 1)


def mark_of(state_dir: Path) -> str:
    """What marks the processes of the instance in `state_dir`. A mark of its own, because a person's shell may well
    carry PUMICE_STATE_DIR and must not be taken for one of them."""
    return hashlib.sha256(str(state_dir).encode()).hexdigest()[:16]


def machine_mark_of(state_dir: Path) -> str:
    """What begins the names of the processes of this instance on this machine, from its start to its end."""
    return f"{mark_of(state_dir)}/{boot_id()}/"


def process_name(state_dir: Path) -> str:
    """A name for this process that no other has, or will have."""
    return f"{machine_mark_of(state_dir)}{uuid.uuid4()}"


def ensure_instance(
    state_dir: Path, *, known_elsewhere: bool = False, choose: Callable[[int, int], int] = random.randint
) -> Instance:
    """The instance of this state directory, its old ports where they are free, and its directories made (0700).

    `known_elsewhere`: other machines know the old ports. Then no others will do, and who has them is waited for: a
    process that was killed keeps its sockets for a moment. Raises InstanceError.
    """
    path = _file(state_dir)
    old = load_instance(state_dir)
    deadline = time.monotonic() + _FREE_SECONDS
    while old is not None:
        if taken := _taken(old.base_port, _FIXED):
            if known_elsewhere and time.monotonic() < deadline:
                time.sleep(0.2)
                continue
            if known_elsewhere:
                raise InstanceError(
                    f"another process has port {taken}, and the other nodes know this one by its ports; end that "
                    f"process, or remove {path}, start again, and let every node join at the new address"
                )
            break
        ensure_private(old.short_dir)
        return old
    for _ in range(_TRIES):
        base = choose(_LOWEST // _BLOCK, _HIGHEST // _BLOCK - 1) * _BLOCK
        if not _taken(base, _FIXED + 50):
            break
    else:
        raise InstanceError(f"no {_BLOCK} free TCP ports in a row between {_LOWEST} and {_HIGHEST}")
    instance = Instance(state_dir, base, _short_dir(state_dir))
    ensure_private(path.parent)
    ensure_private(instance.short_dir)
    write_private(path, json.dumps({key: _plain(value) for key, value in asdict(instance).items()}, indent=1) + "\n")
    return instance


def load_instance(state_dir: Path) -> Instance | None:
    """The instance as last recorded, or None."""
    try:
        record = json.loads(_file(state_dir).read_text(encoding="utf-8"))
        return Instance(state_dir, int(record["base_port"]), Path(record["short_dir"]))
    except (OSError, ValueError, KeyError):
        return None


def ensure_private(directory: Path) -> None:
    """`directory` is there, ours and nobody else's (0700). Raises InstanceError when somebody else made it."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    status = directory.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid():
        raise InstanceError(f"{directory} is not a directory of ours; remove it")
    if stat.S_IMODE(status.st_mode) != 0o700:
        directory.chmod(0o700)


def _file(state_dir: Path) -> Path:
    return state_dir / "run" / "instance.json"


def _short_dir(state_dir: Path) -> Path:
    inside = state_dir / "ray"
    return inside if len(os.fsencode(inside)) <= _LONGEST else Path("/tmp") / f"pumice-{mark_of(state_dir)}"  # noqa: S108


def _taken(base: int, count: int) -> int | None:
    """The first of so many ports of the block that somebody has."""
    return next((base + offset for offset in range(count) if not _is_free(base + offset)), None)


def _is_free(port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("", port))
        except OSError:
            return False
        return True


def _plain(value: object) -> object:
    return str(value) if isinstance(value, Path) else value
