"""Throttles of block devices in control groups, in blocking code: `io.max` of cgroup v2, `blkio.throttle.*` of v1.

A rule holds in one cgroup (v2: in those below it too) for what its processes ask of a device, `major:minor`. So a
device that is to be limited gets the same rule in every cgroup a consumer may be in. The kernel keeps the rule with the
number, whatever that is used for next: who makes a rule takes it away. Knows no connection and no loop device.
Interface: the kernel's admin-guide/cgroup-v2 (IO) and admin-guide/cgroup-v1/blkio-controller.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Protocol

from drivers.vocabulary import UNLIMITED, BackendUnavailableError, Limits

_MOUNTS: Final = Path("/proc/self/mountinfo")
_OWN: Final = Path("/proc/self/cgroup")
_MOST_IOPS: Final = (1 << 32) - 1  # the kernel's word for no limit
_V2_KEYS: Final = {"riops": "read_iops", "wiops": "write_iops", "rbps": "read_bytes", "wbps": "write_bytes"}
_V1_NAMES: Final = {
    "blkio.throttle.read_iops_device": "read_iops",
    "blkio.throttle.write_iops_device": "write_iops",
    "blkio.throttle.read_bps_device": "read_bytes",
    "blkio.throttle.write_bps_device": "write_bytes",
}
_GONE: Final = (errno.ENOENT, errno.ENODEV, errno.ENXIO)


class Controller(Protocol):
    """The throttles of this machine."""

    @property
    def root(self) -> Path:
        """Where its cgroups are."""
        ...

    def why_not(self) -> str:
        """Why limits cannot be kept here, and what to do; "" when they can."""
        ...

    def ensure(self, device: str, limits: Limits) -> None:
        """`device` (`major:minor`) has these limits, which have no totals, and no others, in every cgroup that is there
        now; `UNLIMITED` takes its rules away. Raises BackendUnavailableError."""
        ...


def controller(mounts: str | None = None, own: str | None = None, chosen: Sequence[str] = ()) -> Controller:
    """That of this machine, by what /proc says of the mounts and of this process's own cgroups. `chosen` are the
    cgroups that get the rules, with those below them, relative to where they are mounted; none are all."""
    found = _mounts(_MOUNTS.read_text(encoding="utf-8", errors="surrogateescape") if mounts is None else mounts)
    for mount in found:
        if mount.kind == "cgroup" and "blkio" in mount.options:
            return _VersionOne(mount.path, chosen)
    for mount in found:
        if mount.kind == "cgroup2" and "io" in _words(mount.path / "cgroup.controllers"):
            is_in_root = "0::/" in (_OWN.read_text(encoding="utf-8") if own is None else own).splitlines()
            return _VersionTwo(mount.path, chosen, is_in_root=is_in_root)
    return _None()


def without_totals(limits: Limits) -> Limits:
    """`limits` as the kernel can have them: it counts reads and writes apart, and operations up to 2**32 - 2."""
    return replace(
        limits,
        total_iops=None,
        total_bytes=None,
        read_iops=_iops(limits.read_iops),
        write_iops=_iops(limits.write_iops),
    )


class _None:
    root = Path("/sys/fs/cgroup")

    def why_not(self) -> str:
        return "there is no cgroup io controller here; mount cgroup2, or cgroup with blkio, on /sys/fs/cgroup"

    def ensure(self, device: str, limits: Limits) -> None:
        if limits != UNLIMITED:
            raise BackendUnavailableError(f"cannot limit device {device}: {self.why_not()}")


class _VersionOne:
    """Each cgroup throttles its own processes alone, so the root and every cgroup below it gets the rule."""

    def __init__(self, root: Path, chosen: Sequence[str]) -> None:
        self.root = root
        self._tops = [root / name for name in chosen] or [root]

    def why_not(self) -> str:
        for rule in (top / name for top in self._tops for name in _V1_NAMES):
            if not rule.exists():
                return f"there is no {rule}; make that cgroup, or name another in the option cgroups"
            if not os.access(rule, os.W_OK):
                return f"{rule} cannot be written; run as root with the cgroup file system mounted for writing"
        return ""

    def ensure(self, device: str, limits: Limits) -> None:
        wanted = without_totals(limits)
        for top in self._tops:
            for directory, _, names in os.walk(top):
                for name, field in _V1_NAMES.items():
                    if name in names:
                        self._ensure(Path(directory) / name, device, getattr(wanted, field) or 0)

    def _ensure(self, path: Path, device: str, value: int) -> None:
        lines = dict(line.split() for line in _read(path).splitlines() if len(line.split()) == 2)
        if int(lines.get(device, 0)) != value:
            _write(path, f"{device} {value}")


class _VersionTwo:
    """What a cgroup throttles, it throttles for all below it; the root of the machine's cgroups throttles nobody."""

    def __init__(self, root: Path, chosen: Sequence[str], *, is_in_root: bool) -> None:
        self.root = root
        self._chosen = chosen
        self._is_in_root = is_in_root

    def why_not(self) -> str:
        rules = list(self._rules())
        missing = [name for name in self._chosen if not (self.root / name / "io.max").exists()]
        if missing:
            there = self.root / missing[0] / "io.max"
            return f"there is no {there}; make that cgroup with the io controller, or name another in cgroups"
        if not rules:
            return (
                f"no cgroup at the top of {self.root} has io.max; write +io to {self.root / 'cgroup.subtree_control'}"
            )
        if self._is_in_root and self.root / "io.max" not in rules:
            return "processes of this node run in the root cgroup, which limits nobody; start Pumice in a cgroup"
        if not all(os.access(path, os.W_OK) for path in rules):
            return f"io.max below {self.root} cannot be written; run as root with cgroup2 mounted for writing"
        return ""

    def ensure(self, device: str, limits: Limits) -> None:
        wanted = without_totals(limits)
        text = " ".join(f"{key}={getattr(wanted, field) or 'max'}" for key, field in _V2_KEYS.items())
        for path in self._rules():
            if _parsed(_read(path), device) != wanted:
                _write(path, f"{device} {text}")

    def _rules(self) -> Iterator[Path]:
        if self._chosen:
            yield from (self.root / name / "io.max" for name in self._chosen)
        elif (own := self.root / "io.max").exists():  # a container's: its root is a cgroup of the machine
            yield own
        else:
            yield from sorted(self.root.glob("*/io.max"))


@dataclass(frozen=True, slots=True)
class _Mount:
    path: Path
    kind: str
    options: frozenset[str]


def _mounts(text: str) -> list[_Mount]:
    """Of proc_pid_mountinfo(5): `id parent major:minor root path options… - kind source super-options`."""
    found = []
    for line in text.splitlines():
        before, _, after = line.partition(" - ")
        first, last = before.split(" "), after.split(" ")
        if len(first) > 4 and len(last) > 2 and last[0] in ("cgroup", "cgroup2"):
            found.append(_Mount(Path(first[4]), last[0], frozenset(last[2].split(","))))
    return found


def _parsed(text: str, device: str) -> Limits:
    for line in text.splitlines():
        number, *pairs = line.split()
        if number == device:
            values = dict(pair.partition("=")[::2] for pair in pairs)
            return Limits(
                **{field: int(values[key]) for key, field in _V2_KEYS.items() if values.get(key, "max") != "max"}
            )
    return UNLIMITED


def _iops(value: int | None) -> int | None:
    return value if value is not None and value < _MOST_IOPS else None


def _words(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="ascii").split()
    except OSError:
        return []


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii")
    except OSError as error:
        if error.errno in _GONE:  # the cgroup has ended meanwhile, and its processes with it
            return ""
        raise BackendUnavailableError(f"cannot read {path}: {error}") from error


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="ascii")
    except OSError as error:
        if error.errno in _GONE:  # the cgroup, or the device and its rules with it
            return
        raise BackendUnavailableError(f"cannot write {text!r} to {path}: {error}") from error
