"""Giving back to the machine what an instance took of it: processes, and file systems mounted under its directory."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from actors import processes
from actors.instance import Instance, load_instance, mark_of
from drivers.pool_image import ensure_unmounted
from drivers.vocabulary import StorageError

# They start others; once they are gone nothing new appears.
_PARENTS = ("raylet", "gcs_server")


def release(state_dir: Path) -> list[str]:
    """End the processes of the instance in `state_dir` and unmount its pools; return what could not be done."""
    left = processes.stop(mark_of(state_dir), first=_PARENTS)
    troubles = [f"process {process.pid} ({process.name}) does not end" for process in left]
    for place in mounts_under(state_dir):
        try:
            ensure_unmounted(place)
        except StorageError as error:
            troubles.append(str(error))
    instance = load_instance(state_dir)
    if instance is not None and not left:
        _remove_sockets(instance)
    return troubles


def mounts_under(directory: Path) -> list[Path]:
    """The mount points below `directory`, the deepest first."""
    places = []
    for line in Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="surrogateescape").splitlines():
        place = re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), line.split(" ")[4])
        if Path(place).is_relative_to(directory.resolve()):
            places.append(Path(place))
    return sorted(places, key=lambda place: -len(place.parts))


def _remove_sockets(instance: Instance) -> None:
    if not instance.short_dir.is_relative_to(instance.state_dir):
        shutil.rmtree(instance.short_dir, ignore_errors=True)
