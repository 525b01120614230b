"""The process behind `pumice up`: brings the head and the service up, watches, mends, and takes everything down again.

It holds no connection to Ray and opens no database, so that it is small and nothing that happens to them happens to it.

Nothing but a signal ends it once the service was up: what goes wrong while it mends (a full disk, no memory for a
process) is tried again. What it says and writes down of itself is best effort, and never in the way of taking down.
"""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Callable, Iterator
from types import FrameType

import structlog

from actors import processes
from actors.head import Head, HeadError
from actors.instance import Instance, InstanceError
from cluster.settings import Settings, is_loopback
from serve_app.command.output import begin_anew
from serve_app.command.part import Part, StartError
from serve_app.command.release import release
from serve_app.command.run_file import RunFile

_LOOK_SECONDS = 0.3
_LONGEST_PAUSE_SECONDS = 30.0
_CALM_SECONDS = 60.0
_CONDUCTOR = "ray::ConductorActor"
_CONDUCTOR_LOOK_SECONDS = 5.0
_CONDUCTOR_SECONDS = 20.0  # Ray needs two for a new process, and a starved machine some more
log = structlog.get_logger("pumice.up")


class Stop(BaseException):
    """Somebody asked us to end. Not an Exception: nothing on the way may take it for a failure of its own."""


class Supervisor:
    """One run. `tell` gets a line for people at each stage."""

    def __init__(self, settings: Settings, instance: Instance, run: RunFile, tell: Callable[[str], None]) -> None:
        self._settings, self._instance, self._run, self._tell = settings, instance, run, tell
        self._head = Head(settings, instance)
        self._log = settings.state_dir / "logs" / "ray.log"
        self._is_up = False
        self._began = self._looked_at = self._seen_at = time.monotonic()

    def run(self, announce: Callable[[], None]) -> list[str]:
        """Come up, `announce` it, keep it up until SIGINT or SIGTERM; return what could not be given back.

        Raises StartError when the first start fails; everything is stopped by then.
        """
        processes.adopt_orphans()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, _stop)
        try:
            with contextlib.suppress(OSError):  # then it goes on in the old one
                begin_anew(self._log)
            self._come_up()
            with contextlib.suppress(OSError):  # whoever was to read it is gone; the service is not
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
        self._is_up = False
        with _failures():
            if is_loopback(self._settings.listen):
                # No node can have outlived the head, so what it remembers is of no use and would only delay.
                self._head.forget()
            # Nothing of ours lives now: a conductor that has died with the head needs its lease no more.
            preparing = self._begin("prepare", "expire")
            self._stage("Ray head")
            self._head.start(self._log)
            preparing.finish(self._log)
            self._serve()

    def _serve(self) -> None:
        self._begin("serve").finish(self._log)
        self._is_up = True
        self._seen_at = time.monotonic()
        self._stage("ready")
        self._run.say("ready", ready=True)

    def _keep_up(self) -> None:
        pause = 1.0
        calm_since = time.monotonic()
        while True:
            time.sleep(_LOOK_SECONDS)
            try:
                with _failures():
                    processes.reap()
                    if self._is_well():
                        self._run.say("ready", ready=True)  # unless it is said already; the disk may have been full
                        if time.monotonic() - calm_since > _CALM_SECONDS:
                            pause = 1.0
                        continue
                    calm_since = time.monotonic()
                    self._mend()
            except StartError as error:
                log.error("up.mend", error=str(error), again_in_seconds=pause)
                self._run.say(f"restarting: {error}", ready=False)
            time.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)

    def _is_well(self) -> bool:
        return self._is_up and self._head.raylet_lives() and self._head.gcs_lives() and not self._conductor_is_gone()

    def _mend(self) -> None:
        if not self._head.raylet_lives():
            log.warning("up.head_died")
            self._run.say("restarting", ready=False)
            self._began = time.monotonic()
            self._head.stop()
            self._come_up()
        elif not self._head.gcs_lives():
            log.warning("up.gcs_died")
            self._head.restart_gcs(self._log)
        elif not self._is_up:
            self._begin("prepare").finish(self._log)
            self._serve()
        else:
            log.warning("up.conductor_gone")
            self._begin("actors").finish(self._log)
            self._seen_at = time.monotonic()

    def _begin(self, *names: str) -> Part:
        return Part(names, self._settings.state_dir, self._head.environment, self._stage)

    def _conductor_is_gone(self) -> bool:
        """Whether its process has been missing for so long that Ray does not bring it back (somebody killed the actor,
        not the process). It sees to all other actors itself."""
        now = time.monotonic()
        if now - self._looked_at >= _CONDUCTOR_LOOK_SECONDS:
            self._looked_at = now
            if any(process.name.startswith(_CONDUCTOR) for process in processes.of_instance(self._instance.mark)):
                self._seen_at = now
        return now - self._seen_at > _CONDUCTOR_SECONDS

    def _stage(self, stage: str) -> None:
        log.info("up.stage", stage=stage)
        with contextlib.suppress(OSError):  # a full disk, a terminal that is gone: nobody to tell it to
            self._tell(f"{time.monotonic() - self._began:6.1f} s  {stage}")


@contextlib.contextmanager
def _failures() -> Iterator[None]:
    """Within it, what this machine may refuse us becomes a StartError with the same sentence."""
    try:
        yield
    except (HeadError, InstanceError, OSError) as error:
        raise StartError(str(error)) from error


def _stop(number: int, _frame: FrameType | None) -> None:
    # Once is enough: a second one would break off the tidying up.
    signal.signal(number, signal.SIG_IGN)
    raise Stop
