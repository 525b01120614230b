"""A program of a cluster's user, run as `python mounts_driver.py DIRECTORY HOST VOLUME KIND VOLUME…`: what tasks on the
node HOST saw of volumes that are elsewhere, in DIRECTORY/seen.json. The first volume is written and held, the others
are mounted in rounds; an empty one gets a file system of that kind.

blocks      where on the device each 4 KiB that a task wrote are, and their SHA-256
killed      a task that holds the volume is killed: seconds until the volume is available, and what it had synced
alone       seconds of each mount while nothing else is done
rounds      seconds of each mount and of each unmount, and what was in the file at the end of each volume's rounds
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import signal
import struct
import sys
import time
from pathlib import Path
from typing import Any

import ray

from actors.handles import Volume, connect
from actors.names import HOST_LABEL

BEGAN = time.monotonic()
BLOCK = 4096
BLOCKS = 4096
ROUNDS = 100
_FIEMAP = 0xC020660B
_SYNC_FIRST = 1
_RELEASE_SECONDS = 90.0


def mapped(descriptor: int, length: int) -> dict[int, int]:
    """Offset in the file → offset on the device, for each 4 KiB (ioctl FIEMAP)."""
    room = 512
    buffer = bytearray(struct.pack("=QQIIII", 0, length, _SYNC_FIRST, 0, room, 0) + bytes(56 * room))
    fcntl.ioctl(descriptor, _FIEMAP, buffer, True)
    [count] = struct.unpack_from("=I", buffer, 20)
    found = {}
    for number in range(count):
        logical, physical, size = struct.unpack_from("=QQQ", buffer, 32 + 56 * number)
        found |= {logical + offset: physical + offset for offset in range(0, size, BLOCK)}
    return found


@ray.remote
def write(volume: Volume) -> dict[int, str]:
    data = os.urandom(BLOCK * BLOCKS)
    with volume.mounted("rw", filesystem="xfs") as path, (path / "data").open("wb") as stream:
        stream.write(data)
        stream.flush()
        os.fsync(stream.fileno())
        there = mapped(stream.fileno(), len(data))
    parts = {place: data[place : place + BLOCK] for place in range(0, len(data), BLOCK)}
    return {there[place]: hashlib.sha256(part).hexdigest() for place, part in parts.items()}


@ray.remote(max_retries=0)
def hold(volume: Volume, told: str) -> None:
    with volume.mounted("rw") as path, (path / "held").open("w") as stream:
        stream.write("synced")
        stream.flush()
        os.fsync(stream.fileno())
        Path(f"{told}.new").write_text(str(os.getpid()))
        Path(f"{told}.new").rename(told)
        while True:
            stream.write("more")
            stream.flush()
            time.sleep(0.01)


@ray.remote
def read(volume: Volume, name: str) -> str:
    with volume.mounted("rw") as path:
        return (path / name).read_text()


@ray.remote
def go_round(volume: Volume, count: int, kind: str) -> tuple[list[float], list[float], str]:
    mounts, unmounts = [], []
    for number in range(count):
        began = time.monotonic()
        with volume.mounted("rw", filesystem=kind) as path:
            mounts.append(time.monotonic() - began)
            with (path / "rounds").open("a") as stream:
                stream.write(f"{number} ")
            ending = time.monotonic()
        unmounts.append(time.monotonic() - ending)
    with volume.mounted("ro") as path:
        return mounts, unmounts, (path / "rounds").read_text()


def killed(volume: Volume, near: dict[str, Any], directory: Path) -> dict[str, Any]:
    told = directory / "held"
    reference = hold.options(**near).remote(volume, str(told))
    while not told.exists():
        ready, _ = ray.wait([reference], timeout=0.05)
        if ready:
            ray.get(reference)
    held = volume.refresh().status
    os.kill(int(told.read_text()), signal.SIGKILL)
    began = time.monotonic()
    while volume.refresh().status != "available" and time.monotonic() - began < _RELEASE_SECONDS:
        time.sleep(0.1)
    seconds = time.monotonic() - began
    text = ray.get(read.options(**near).remote(volume, "held"))
    return {"held": held, "seconds": seconds, "text": text[:6]}


def say(text: str) -> None:
    """Where it is, for whoever reads how it failed."""
    print(f"{time.monotonic() - BEGAN:.1f} s: {text}", file=sys.stderr, flush=True)


def main(directory: Path, host: str, kind: str, first: str, others: list[str]) -> dict[str, Any]:
    client = connect()
    near = {"label_selector": {HOST_LABEL: host}}
    volume = client.volume(first)
    say("blocks")
    seen: dict[str, Any] = {"blocks": ray.get(write.options(**near).remote(volume))}
    say("killed")
    seen["killed"] = killed(volume, near, directory)
    say("alone")
    seen["alone"], _, _ = ray.get(go_round.options(**near).remote(volume, 9, kind))
    say("rounds")
    each = ROUNDS // len(others) - 1  # and one to read
    done = ray.get([go_round.options(**near).remote(client.volume(one), each, kind) for one in others])
    say("done")
    seen["mounts"] = [seconds for mounts, _, _ in done for seconds in mounts]
    seen["unmounts"] = [seconds for _, unmounts, _ in done for seconds in unmounts]
    seen["texts"] = [text.split() == [str(number) for number in range(each)] for _, _, text in done]
    return seen


if __name__ == "__main__":
    where = Path(sys.argv[1])
    (where / "seen.json").write_text(json.dumps(main(where, sys.argv[2], sys.argv[4], sys.argv[3], sys.argv[5:])))
