"""Running `ray start`, for the head and for a node that joins it. No Ray here: it is another process.

RayStartError   it failed or did not come to an end; the message has what Ray said
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from actors.instance import Instance

START_SECONDS = 120


class RayStartError(Exception):
    """A node of Ray did not start."""


def ray_start(arguments: Sequence[str], environment: Mapping[str, str], log: Path, *, what: str) -> None:
    """Run it to its end, which leaves the node's processes running; `log` gets what Ray prints, `what` names the node
    in errors. Raises RayStartError, OSError."""
    command = [str(Path(sys.executable).with_name("ray")), "start", *arguments]
    with log.open("ab") as output:
        try:
            done = subprocess.run(
                command,
                env=dict(environment),
                cwd="/",
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                timeout=START_SECONDS,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise RayStartError(f"{what} was not there after {START_SECONDS} s; see {log}") from error
    if done.returncode != 0:
        raise RayStartError(f"`ray start` failed with {done.returncode}: {_last_line(log)} (all of it: {log})")


def tidy_sessions(instance: Instance) -> None:
    """Before a node of the instance starts: forget the cluster it was in, and remove the sessions before the last."""
    # Ray takes a head for running when this names its address; and it never removes an old session.
    (instance.ray_dir / "ray_current_cluster").unlink(missing_ok=True)
    sessions = sorted(instance.ray_dir.glob("session_2*"), key=lambda path: path.name)
    for old in sessions[:-1]:
        shutil.rmtree(old, ignore_errors=True)


def _last_line(log: Path) -> str:
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return lines[-1] if lines else "it said nothing"
