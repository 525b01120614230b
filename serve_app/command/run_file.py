"""Who runs the instance of a state directory: a lock held by `pumice up`, and a file that says more about it.

The lock goes with the process, whatever ends it. The file may outlive it; it names the process by number and birth.
"""

from __future__ import annotations

import fcntl
import json
import os
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import structlog

from actors import processes
from actors.instance import ensure_private
from cluster.settings_file import write_private

log = structlog.get_logger("pumice.up")


class AlreadyRunningError(Exception):
    """Another `pumice up` runs on this state directory."""


@dataclass(frozen=True)
class Run:
    """A run of `pumice up`, or of `pumice join` (then `endpoint` is empty). `ready` once volumes could be created, or
    the node was in the cluster; `state` is what it last said it was doing. `jobs` is where jobs are submitted."""

    pid: int
    started_at: str
    endpoint: str
    ray_address: str
    log: str | None
    state: str = "starting"
    ready: bool = False
    jobs: str | None = None

    def is_alive(self) -> bool:
        """Whether that process still runs; another one that has got its number does not count."""
        return processes.is_alive(self.pid) and processes.started_at(self.pid) == self.started_at


class RunFile:
    """The lock and the file of one state directory."""

    def __init__(self, state_dir: Path) -> None:
        self._path = state_dir / "run" / "up.json"
        self._lock = state_dir / "run" / "lock"
        self._held: int | None = None
        self._run: Run | None = None

    def take(self) -> None:
        """Hold the lock until this process ends. Raises AlreadyRunningError."""
        ensure_private(self._path.parent)
        descriptor = os.open(self._lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(descriptor)
            run = self.read()
            who = f" (process {run.pid}{', ' * bool(run.endpoint)}{run.endpoint})" if run else ""
            raise AlreadyRunningError(
                f"an instance runs already in {self._path.parent.parent}{who}; "
                "stop it with `pumice down`, or give another --state-dir and --port"
            ) from error
        self._held = descriptor

    @property
    def ready(self) -> bool:
        """What this run said last."""
        return self._run is not None and self._run.ready

    def write(self, run: Run) -> None:
        """Record the run."""
        write_private(self._path, json.dumps(asdict(run), indent=1) + "\n")
        self._run = run

    def say(self, state: str, *, ready: bool) -> None:
        """Record what the run is doing now unless that is recorded. A disk that does not take it (it may be full) must
        not hinder whoever says it; the next call tries again."""
        if self._run is not None and (self._run.state, self._run.ready) != (state, ready):
            try:
                self.write(replace(self._run, state=state, ready=ready))
            except OSError as error:
                log.warning("up.unsaid", state=state, error=str(error))

    def clear(self) -> None:
        """Nothing runs any more. A file that cannot be removed names a process that is no longer alive."""
        try:
            self._path.unlink(missing_ok=True)
        except OSError as error:
            log.warning("up.unsaid", state="ended", error=str(error))

    def read(self) -> Run | None:
        """The run as last recorded, alive or not; None when there is none."""
        try:
            return Run(**json.loads(self._path.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            return None
