"""The server that takes jobs (`ray job submit`): starting it, seeing that it answers, starting it again. No Ray here.

It is the part of Ray's dashboard that is for jobs, or with the setting `dashboard` all of it. Ray starts the dashboard
with the head, has it load nothing or everything, and does not look after it again; so here it is started anew from
Ray's own command line, for jobs alone. It listens on loopback and admits whoever has the cluster's token.

What happens to it happens to jobs that are being submitted or looked at, and to nothing else: jobs that run belong to
the head's agent and go on.
"""

from __future__ import annotations

import http.client
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import structlog

from actors import processes
from actors.head_environment import DASHBOARD, LOOPBACK
from actors.instance import Instance
from actors.node_environment import token_path

SCRIPT = "dashboard.py"
# The server's helpers call themselves so.
_HELPERS = "ray-dashboard-"
# Of Ray's command line for a dashboard that loads nothing.
_REPLACED = ("--modules-to-load", "--disable-frontend", "--node-ip-address")
# Those that take jobs, and that tell them which node is the head's.
_MODULES = "JobHead,NodeHead"
# A path that the server itself does not answer: the helper does that takes the jobs.
_PATH = "/api/version"
_ANSWER_SECONDS = 2.0
_LOOK_SECONDS = 10.0
# So many looks without an answer: a server that starts on a busy machine needs some.
_PATIENCE = 6
_LONGEST_PAUSE_SECONDS = 60.0
log = structlog.get_logger("pumice.up")


class JobServer:
    """Of one instance. `clock` in seconds."""

    def __init__(
        self,
        instance: Instance,
        environment: Mapping[str, str],
        *,
        whole_dashboard: bool,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._instance, self._environment, self._whole = instance, environment, whole_dashboard
        self._clock = clock
        self._argv: Sequence[str] = ()
        self._process: tuple[int, str] | None = None
        self._child: subprocess.Popen[bytes] | None = None
        self._looked_at, self._unanswered = clock(), 0
        self._again_at, self._pause = 0.0, 1.0

    def take_over(self, output: Path) -> None:
        """The head has just started: from what Ray started for its dashboard make what is wanted. `output` gets what it
        prints. That it does not start is no error, it is tried again by `keep`."""
        found = [one for one in processes.find(self._instance.mark, SCRIPT) if self._is_server(one.argv)]
        self._argv = ()
        if not found:
            log.error("up.no_job_server", because="Ray has started no dashboard whose command line could be used")
            return
        self._looked_at, self._unanswered = self._clock(), 0
        self._argv = found[0].argv if self._whole else jobs_alone(found[0].argv)
        self._process = found[0].pid, processes.started_at(found[0].pid)
        if not self._whole:
            self._end()
            self._start(output)

    def keep(self, output: Path) -> None:
        """Start it again when it has died, end it when it does not answer any more. To be called several times a
        second; raises nothing."""
        now = self._clock()
        if not self._argv:
            return
        if not self._lives():
            if now >= self._again_at:
                log.warning("up.job_server_died")
                self._end()  # helpers may have been left
                self._start(output)
                self._again_at, self._pause = now + self._pause, min(2 * self._pause, _LONGEST_PAUSE_SECONDS)
        elif now - self._looked_at >= _LOOK_SECONDS:
            self._looked_at = now
            if self.answers():
                self._unanswered, self._pause = 0, 1.0
            else:
                self._unanswered += 1
            if self._unanswered >= _PATIENCE:
                log.warning("up.hung", name=SCRIPT, pid=self._process and self._process[0])
                self._unanswered = 0
                self._end()

    def wait(self, timeout_seconds: float) -> None:
        """Return when it answers, or after so many seconds."""
        deadline = self._clock() + timeout_seconds
        while self._argv and self._clock() < deadline and not self.answers():
            time.sleep(0.2)

    def answers(self) -> bool:
        """Whether a job could be submitted now."""
        connection = http.client.HTTPConnection(LOOPBACK, self._instance.port(DASHBOARD), timeout=_ANSWER_SECONDS)
        try:
            token = token_path(self._instance.state_dir).read_text(encoding="utf-8").strip()
            connection.request("GET", _PATH, headers={"Authorization": f"Bearer {token}"})
            return connection.getresponse().status < http.client.INTERNAL_SERVER_ERROR
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()

    def _lives(self) -> bool:
        if self._child is not None:
            self._child.poll()  # whoever has buried it
        if self._process is None:
            return False
        pid, started_at = self._process
        return processes.is_alive(pid) and processes.started_at(pid) == started_at

    def _start(self, output: Path) -> None:
        try:
            with output.open("ab") as file:
                self._child = subprocess.Popen(
                    self._argv,
                    env=dict(self._environment),
                    cwd="/",
                    stdin=subprocess.DEVNULL,
                    stdout=file,
                    stderr=file,
                    start_new_session=True,
                )
        except OSError as error:
            log.error("up.no_job_server", error=str(error))
            self._process = None
        else:
            self._process = self._child.pid, processes.started_at(self._child.pid)

    def _end(self) -> None:
        """Kill it and its helpers, which would go by themselves a second later and hold their sockets until then."""
        mark = self._instance.mark
        for process in processes.of_instance(mark):
            is_helper = bool(process.argv) and process.argv[0].startswith(_HELPERS)
            if is_helper or self._is_server(process.argv):
                processes.send(process, mark, signal.SIGKILL)

    def _is_server(self, argv: Sequence[str]) -> bool:
        """Told by its port, too: a job may have a script of that name."""
        named = any(Path(argument).name == SCRIPT for argument in argv[:4])
        return named and f"--port={self._instance.port(DASHBOARD)}" in argv


def jobs_alone(argv: Sequence[str]) -> list[str]:
    """Ray's command line for its dashboard, changed so that it takes jobs and does nothing else, on loopback."""
    kept = [argument for argument in argv if argument.partition("=")[0] not in _REPLACED]
    return [*kept, f"--node-ip-address={LOOPBACK}", f"--modules-to-load={_MODULES}"]
