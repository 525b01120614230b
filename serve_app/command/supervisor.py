"""The process behind `pumice up`: brings the head and the service up, watches, mends, and takes everything down again.

It holds no connection to Ray and opens no database, so that it is small and nothing that happens to them happens to it.

    StartError   the service did not come up; the message says why
"""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from types import FrameType

import structlog

from actors import processes
from actors.head import Head, HeadError
from actors.instance import Instance
from cluster.settings import Settings, is_loopback
from serve_app.command.release import release
from serve_app.command.run_file import RunFile

_LOOK_SECONDS = 0.3
_LONGEST_PAUSE_SECONDS = 30.0
_LAUNCH_SECONDS = 400
log = structlog.get_logger("pumice.up")


class StartError(Exception):
    """The service did not come up."""


class Stop(BaseException):
    """Somebody asked us to end. Not an Exception: nothing on the way may take it for a failure of its own."""


class Supervisor:
    """One run. `tell` gets a line for people at each stage."""

    def __init__(self, settings: Settings, instance: Instance, run: RunFile, tell: Callable[[str], None]) -> None:
        self._settings, self._instance, self._run, self._tell = settings, instance, run, tell
        self._head = Head(settings, instance)
        self._log = settings.state_dir / "logs" / "ray.log"
        self._began = time.monotonic()

    def run(self, announce: Callable[[], None]) -> list[str]:
        """Come up, `announce` it, keep it up until SIGINT or SIGTERM; return what could not be given back.

        Raises StartError when the first start fails; everything is stopped by then.
        """
        processes.adopt_orphans()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, _stop)
        try:
            self._come_up()
            announce()
            self._keep_up()
        except Stop:
            self._stage("stopping")
        finally:
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                signal.signal(number, signal.SIG_IGN)
            self._run.say("stopping", ready=False)
            troubles = release(self._settings.state_dir)
            self._run.clear()
        return troubles

    def _come_up(self) -> None:
        if is_loopback(self._settings.listen):
            # No node can have outlived the head, so what it remembers is of no use and would only delay.
            self._head.forget()
        preparing = self._begin("prepare")
        self._stage("Ray head")
        try:
            self._head.start(self._log)
        except HeadError as error:
            raise StartError(str(error)) from error
        finally:
            self._finish(preparing)
        self._finish(self._begin("serve"))
        self._stage("ready")
        self._run.say("ready", ready=True)

    def _keep_up(self) -> None:
        pause = 1.0
        calm_since = time.monotonic()
        while True:
            time.sleep(_LOOK_SECONDS)
            processes.reap()
            if self._head.raylet_lives() and self._head.gcs_lives():
                if time.monotonic() - calm_since > 60:
                    pause = 1.0
                continue
            calm_since = time.monotonic()
            try:
                self._mend()
            except StartError as error:
                log.error("up.mend", error=str(error), again_in_seconds=pause)
                self._run.say(f"restarting: {error}", ready=False)
            time.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)

    def _mend(self) -> None:
        if self._head.raylet_lives():
            log.warning("up.gcs_died")
            self._head.restart_gcs(self._log)
            return
        log.warning("up.head_died")
        self._run.say("restarting", ready=False)
        self._began = time.monotonic()
        self._head.stop()
        self._come_up()

    def _begin(self, part: str) -> subprocess.Popen[str]:
        child = subprocess.Popen(
            [sys.executable, "-m", "serve_app.command.launch", str(self._settings.state_dir), part],
            env=self._head.environment,
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        threading.Thread(target=self._relay, args=(child,), daemon=True).start()
        return child

    def _relay(self, child: subprocess.Popen[str]) -> None:
        if child.stdout is not None:
            for line in child.stdout:
                self._stage(line.strip())

    def _finish(self, child: subprocess.Popen[str]) -> None:
        said: list[str] = []

        def listen() -> None:
            if child.stderr is not None:
                said.extend(child.stderr)

        reader = threading.Thread(target=listen, daemon=True)
        reader.start()
        try:
            code = child.wait(_LAUNCH_SECONDS)
        except subprocess.TimeoutExpired as error:
            child.kill()
            raise StartError(f"the service was not up after {_LAUNCH_SECONDS} s") from error
        reader.join(5)
        if code != 0:
            with self._log.open("a", encoding="utf-8") as file:
                file.writelines(said)
            lines = [line.strip() for line in said if line.strip()]
            raise StartError(lines[-1] if lines else f"the launching process ended with {code}; see {self._log}")

    def _stage(self, stage: str) -> None:
        log.info("up.stage", stage=stage)
        self._tell(f"{time.monotonic() - self._began:6.1f} s  {stage}")


def _stop(number: int, _frame: FrameType | None) -> None:
    # Once is enough: a second one would break off the tidying up.
    signal.signal(number, signal.SIG_IGN)
    raise Stop
