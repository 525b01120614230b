"""The limits of one export's loop devices: made with the device, gone with it. Blocking code; knows no consumer.

The kernel keeps a rule with the device's number, and numbers are used again. So a file `limits-loopN.json`, written
before the rule and removed after it, names the device's tag, its limits and the cgroups that were chosen for them, and
whoever of Pumice binds or frees a device holds `loop_device.alone()` until its rules are those of its new user. What a
crash left behind, or a consumer that closed its device later, is found by `repair`, which also brings the rules to
cgroups that are new.
"""

from __future__ import annotations

import json
import re
from dataclasses import asdict
from pathlib import Path
from typing import Final

from drivers.exports import cgroup_io, loop_device
from drivers.exports.loop_device import LoopDevice
from drivers.reflink import durable
from drivers.vocabulary import UNLIMITED, Limits

_PUMICE: Final = re.compile(r"pm[0-9a-f]{12}\..*")  # the tag of a device of any export `local` of this machine


class LoopLimits:
    """`directory` is the export's. Raises OSError and BackendUnavailableError. For `ensure` and `release` the caller
    holds `loop_device.alone()`."""

    def __init__(self, directory: Path, cgroups: tuple[str, ...] = ()) -> None:
        self._directory = directory
        self._cgroups = cgroups

    def cannot_keep(self, limits: Limits) -> str:
        """Why a device cannot have these limits, and what to do; "" when it can."""
        if limits == UNLIMITED:
            return ""
        if limits.total_iops is not None or limits.total_bytes is not None:
            return "a cgroup counts reads and writes apart and knows no total; limit reads and writes, or use nbd"
        return self._controller().why_not()

    def ensure(self, device: LoopDevice, limits: Limits) -> None:
        """The bound device has exactly these limits, whoever had its number before."""
        name = device.path.name
        if limits == UNLIMITED:
            self._clear(name)
            return
        recorded = self._recorded(name)
        if recorded is not None and recorded != self._cgroups:
            self._undo(name, recorded)
        record = {"tag": device.tag, "limits": asdict(limits), "cgroups": self._cgroups}
        durable.write_whole(self._record(name), json.dumps(record))
        # Crash window: a record without rules, which `repair` makes, or forgets with the device.
        self._controller().ensure(_number(name), limits)

    def release(self, device: LoopDevice) -> None:
        """The device has been freed: its rules are gone, unless another of Pumice, who made his own, has the number."""
        record = self._record(device.path.name)
        if record.exists() and json.loads(record.read_text(encoding="utf-8"))["tag"] == device.tag:
            self._end(device.path.name)

    def names(self) -> list[str]:
        """The devices for which there are or were limits of this export."""
        return [record.stem.removeprefix("limits-") for record in sorted(self._directory.glob("limits-loop*.json"))]

    def repair(self) -> None:
        """Every limited device that is still bound has its rules in every cgroup; of the others no rule is left."""
        for name in self.names():
            record = self._record(name)
            with loop_device.alone():
                if not record.exists():
                    continue
                found = json.loads(record.read_text(encoding="utf-8"))
                device = loop_device.look(Path("/dev") / name)
                if device is not None and device.tag == found["tag"]:
                    if self._recorded(name) != self._cgroups:
                        self.ensure(device, Limits(**found["limits"]))
                    else:
                        self._controller().ensure(_number(name), Limits(**found["limits"]))
                else:
                    self._end(name)

    def end(self) -> None:
        """No rule of this export is left, also on devices that are still held."""
        for name in self.names():
            record = self._record(name)
            with loop_device.alone():
                if record.exists():
                    self._end(name, json.loads(record.read_text(encoding="utf-8"))["tag"])

    def _end(self, name: str, tag: str = "") -> None:
        now = loop_device.look(Path("/dev") / name)
        if now is None or now.tag == tag or not _PUMICE.fullmatch(now.tag):
            self._clear(name)
        else:
            self._record(name).unlink(missing_ok=True)

    def _recorded(self, name: str) -> tuple[str, ...] | None:
        """The cgroups in which the device has or had rules: an earlier life may have been told others, and whoever ends
        an instance knows none. None without a record."""
        record = self._record(name)
        if not record.exists():
            return None
        return tuple(json.loads(record.read_text(encoding="utf-8")).get("cgroups", self._cgroups))

    def _clear(self, name: str) -> None:
        recorded = self._recorded(name)
        for cgroups in {self._cgroups, self._cgroups if recorded is None else recorded}:
            self._undo(name, cgroups)
        # Crash window: a record without rules, as above.
        self._record(name).unlink(missing_ok=True)

    def _undo(self, name: str, cgroups: tuple[str, ...]) -> None:
        cgroup_io.controller(chosen=cgroups).ensure(_number(name), UNLIMITED)

    def _record(self, name: str) -> Path:
        return self._directory / f"limits-{name}.json"

    def _controller(self) -> cgroup_io.Controller:
        return cgroup_io.controller(chosen=self._cgroups)


def _number(name: str) -> str:
    return f"{loop_device.MAJOR}:{name.removeprefix('loop')}"
