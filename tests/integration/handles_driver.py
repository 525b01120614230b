"""A program of a cluster's user, run as `python handles_driver.py DIRECTORY`: what it saw of its volumes, in
DIRECTORY/seen.json.

round       written in one task, snapshot, clone, read in another
worker      the worker that mounts is killed
actor       the node actor is killed while a volume is mounted
many        twenty mounts, one after the other
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import ray

from actors.handles import HandleError, Volume, connect
from actors.names import HOST_LABEL

BEGAN = time.monotonic()
ROUNDS = 20
RELEASE_SECONDS = 60.0


@ray.remote
def write(volume: Volume, text: str) -> str:
    with volume.mounted("rw") as path:
        (path / "text").write_text(text)
        return str(path)


@ray.remote
def read(volume: Volume) -> str:
    with volume.mounted("ro") as path:
        try:
            (path / "more").write_text("no")
        except OSError as error:
            return (path / "text").read_text() + f" ({error.strerror})"
        return "it could be written"


@ray.remote(max_retries=0)
def hold(volume: Volume, told: str, until: str | None) -> str:
    with volume.mounted("rw") as path:
        (path / "text").write_text("held")
        Path(told).write_text(json.dumps([os.getpid(), str(path)]))
        while until is None or not Path(until).exists():
            time.sleep(0.05)
        (path / "text").write_text("still held")
        return (path / "text").read_text()


def left(volume: Volume) -> list[str]:
    """What there is of the volume but itself: mounts of claims, devices over it, attachments."""
    found = [line for line in Path("/proc/self/mountinfo").read_text().splitlines() if "/node/mounts/" in line]
    for backing in Path("/sys/block").glob("loop*/loop/backing_file"):
        try:
            found += [name for name in [backing.read_text().strip()] if volume.id in name]
        except OSError:
            continue
    return [*found, *(str(item) for item in volume.refresh().twin.seen["attachments"])]


def released(volume: Volume) -> dict[str, Any]:
    """How long it took until the volume was available and nothing was left, at most RELEASE_SECONDS."""
    began = time.monotonic()
    while time.monotonic() - began < RELEASE_SECONDS:
        if volume.refresh().status == "available" and left(volume) == []:
            break
        time.sleep(0.1)
    return {"seconds": time.monotonic() - began, "status": volume.refresh().status, "left": left(volume)}


def holder(directory: Path, volume: Volume, until: Path | None) -> tuple[Any, int, str]:
    """A task that holds the volume: its reference, its process, its directory."""
    told = directory / f"held-{volume.id}"
    reference = hold.options(**volume.locality()).remote(volume, str(told), str(until) if until else None)
    while not told.exists() or not told.read_text():
        ready, _ = ray.wait([reference], timeout=0.05)
        if ready:
            ray.get(reference)
    pid, path = json.loads(told.read_text())
    return reference, pid, path


def node_actors(state_dir: str) -> list[int]:
    """The processes of node actors of the instance."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and b"ray::NodeActor" in (entry / "cmdline").read_bytes():
                variables = (entry / "environ").read_bytes().split(b"\0")
                found += [int(entry.name)] if f"PUMICE_STATE_DIR={state_dir}".encode() in variables else []
        except OSError:
            continue
    return found


def say(text: str) -> None:
    """Where it is, for whoever reads how it failed."""
    print(f"{time.monotonic() - BEGAN:.1f} s: {text}", file=sys.stderr, flush=True)


def main(directory: Path) -> dict[str, Any]:
    client = connect()
    say("connected")
    seen: dict[str, Any] = {}
    volume = client.create_volume(1, name="data").ready()
    near = volume.locality()
    [host] = near["label_selector"].values()
    seen["locality"] = (list(near["label_selector"]) == [HOST_LABEL], host == volume.host)
    path = ray.get(write.options(**near).remote(volume, "hello"))
    snapshot = volume.snapshot("s").ready()
    ray.get(write.options(**near).remote(volume, "later"))
    clone = snapshot.clone("c").ready()
    texts = ray.get([read.options(**one.locality()).remote(one) for one in (clone, volume)])
    seen["round"] = {"texts": texts, "path_gone": not Path(path).exists(), "left": left(clone) + left(volume)}
    say("fan out")
    copies = volume.fan_out(3)
    seen["fan_out"] = ray.get([read.remote(one) for one in copies])
    say("empty")
    seen["empty"] = ""
    empty = client.create_volume(1).ready()
    try:
        with empty.mounted("ro"):
            pass
    except HandleError as error:
        seen["empty"] = f"{type(error).__name__}: {error}"
    seen["empty_after"] = (empty.refresh().status, left(empty))

    say("worker")
    reference, pid, _ = holder(directory, volume, None)
    try:
        with volume.mounted("rw"):
            seen["second"] = "mounted twice"
    except HandleError as error:
        seen["second"] = type(error).__name__
    held = volume.refresh().status
    os.kill(pid, signal.SIGKILL)
    seen["worker"] = {"held": held, **released(volume)}
    ray.wait([reference])

    say("actor")
    until = directory / "go-on"
    reference, _, _ = holder(directory, clone, until)
    [actor] = node_actors(os.environ["PUMICE_STATE_DIR"])
    os.kill(actor, signal.SIGKILL)
    while actor in node_actors(os.environ["PUMICE_STATE_DIR"]):
        time.sleep(0.05)
    until.touch()
    seen["actor"] = {"text": ray.get(reference), **released(clone)}

    say("many")
    for _ in range(ROUNDS):
        with volume.mounted("rw") as mounted:
            (mounted / "text").write_text("round")
    seen["many"] = left(volume)
    for one in [*copies, clone, empty]:
        one.delete()
    snapshot.delete()
    volume.delete()
    seen["volumes"] = [one.id for one in client.volumes()]
    return seen


if __name__ == "__main__":
    where = Path(sys.argv[1])
    # Not on stdout: Ray tells there of workers that were killed.
    (where / "seen.json").write_text(json.dumps(main(where)))
