"""Giving back to the machine what an instance took of it: processes, what its exports took, and the images of pools
that it mounted."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Collection
from pathlib import Path

from actors import processes
from actors.instance import Instance, load_instance, mark_of
from actors.node_claims import node_directory
from cluster.storage_network import nft, shaping, ways
from cluster.storage_network.allow_list import table_prefix
from drivers import mountinfo
from drivers.attach import clearing as attach_clearing
from drivers.exports import clearing
from drivers.pool_image import ensure_unmounted
from drivers.vocabulary import StorageError

# They start others; once they are gone nothing new appears.
_PARENTS = ("raylet", "gcs_server")


def end_control(state_dir: Path) -> list[str]:
    """End the processes of the instance in `state_dir` but those that serve attached volumes: whoever starts it anew
    finds these, the devices and the mounts again. Return what could not be done."""
    return _end(state_dir, attach_clearing.SERVING)


def release(state_dir: Path) -> list[str]:
    """End the processes of the instance in `state_dir`, unmount what it mounted for tasks, free its devices, remove its
    rules of the packet filter and traffic classes, unmount its pools; return what could not be done."""
    troubles = end_control(state_dir)
    if not troubles:
        # What is mounted needs those that serve it for what was written last.
        troubles = attach_clearing.clear(node_directory(state_dir))
        troubles += _end(state_dir) or clearing.clear(state_dir)
        troubles += nft.clear(table_prefix(mark_of(state_dir)))
        troubles += shaping.clear(mark_of(state_dir), ways.backends(state_dir))
    for place in own_mounts(state_dir):
        try:
            ensure_unmounted(place)
        except StorageError as error:
            troubles.append(str(error))
    return troubles


def _end(state_dir: Path, spare: Collection[str] = ()) -> list[str]:
    left = processes.stop(mark_of(state_dir), first=_PARENTS, spare=spare)
    instance = load_instance(state_dir)
    if instance is not None and not left:
        _remove_sockets(instance)
    return [f"process {process.pid} ({process.name}) does not end" for process in left]


def _backing_file(device: str) -> str | None:
    """The file behind a loop device; None when it is no loop device, or a free one."""
    try:
        return Path(f"/sys/block/{Path(device).name}/loop/backing_file").read_text(encoding="utf-8").rstrip("\n")
    except OSError:
        return None


def own_mounts(
    state_dir: Path,
    *,
    table: Callable[[], str] = mountinfo.read,
    backing_file: Callable[[str], str | None] = _backing_file,
) -> list[Path]:
    """Where images of the instance's pools are mounted in its directory, the deepest first. What else is mounted there
    (a disk given to the instance, somebody's bind mount) is not ours to unmount."""
    directory = state_dir.resolve()
    places = []
    for place, what in mountinfo.places(table()):
        image = backing_file(what)
        if place.is_relative_to(directory) and image is not None and Path(image).is_relative_to(directory / "pools"):
            places.append(place)
    return sorted(places, key=lambda place: -len(place.parts))


def _remove_sockets(instance: Instance) -> None:
    if not instance.short_dir.is_relative_to(instance.state_dir):
        shutil.rmtree(instance.short_dir, ignore_errors=True)
