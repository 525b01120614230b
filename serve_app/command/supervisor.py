"""The process behind `pumice up`: brings the head and the service up, watches, mends, and takes everything down again.

It holds no connection to Ray and opens no database, so that it is small and nothing that happens to them happens to it.
What is hung it kills (`actors.hangs`), and then mends as if it had died.

Nothing but a signal ends it once the service was up: what goes wrong while it mends (a full disk, no memory for a
process) is tried again. What it says and writes down of itself is best effort, and never in the way of taking down.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator

import structlog

from actors import processes
from actors.hangs import Hangs
from actors.head import Head, HeadError
from actors.head_environment import ray_address
from actors.instance import Instance, InstanceError
from cluster.settings import Settings
from serve_app.command.output import begin_anew
from serve_app.command.part import Part, StartError
from serve_app.command.release import release
from serve_app.command.run_file import RunFile
from serve_app.command.stopping import Stop, heed_signals, ignore_signals

_LOOK_SECONDS = 0.3
# Between tries that failed. Not longer: what was in the way (a full disk, a database that is away) may be over at once.
_LONGEST_PAUSE_SECONDS = 8.0
# A GCS that dies this soon after its restart, and so often, is not helped by another.
_GCS_SECONDS = 15.0
_GCS_TRIES = 3
_CONDUCTOR = "ray::ConductorActor"
_CONDUCTOR_LOOK_SECONDS = 5.0
_CONDUCTOR_SECONDS = 20.0  # Ray needs two for a new process, and a starved machine some more
log = structlog.get_logger("pumice.up")


class Supervisor:
    """One run. `tell` gets a line for people at each stage."""

    def __init__(self, settings: Settings, instance: Instance, run: RunFile, tell: Callable[[str], None]) -> None:
        self._settings, self._instance, self._run, self._tell = settings, instance, run, tell
        self._head = Head(settings, instance)
        self._log = settings.state_dir / "logs" / "ray.log"
        address = ray_address(settings, instance).rpartition(":")[0]
        self._hangs = Hangs(instance, address, settings.port, hung_seconds=settings.timing.hung)
        self._is_up = False
        self._gcs_tries, self._gcs_at = 0, time.monotonic()
        self._began = self._looked_at = self._seen_at = time.monotonic()

    def run(self, announce: Callable[[], None]) -> list[str]:
        """Come up, `announce` it, keep it up until SIGINT or SIGTERM; return what could not be given back.

        Raises StartError when the first start fails; everything is stopped by then.
        """
        processes.adopt_orphans()
        heed_signals()
        try:
            with contextlib.suppress(OSError):  # then it goes on in the old one
                begin_anew(self._log)
            self._come_up("prepare", "expire")
            self._head.wait_for_jobs()
            with contextlib.suppress(OSError):  # whoever was to read it is gone; the service is not
                announce()
            self._keep_up()
        except Stop:
            self._stage("stopping")
        finally:
            ignore_signals()
            self._run.say("stopping", ready=False)
            troubles = release(self._settings.state_dir)
            self._run.clear()
        return troubles

    def _come_up(self, *parts: str) -> None:
        """Start the head, and meanwhile do what needs no Ray; then the service."""
        self._is_up = False
        with _failures():
            if self._settings.cluster_address is None:
                # No node can have outlived the head, so what it remembers is of no use and would only delay.
                self._head.forget()
            # Nothing of ours lives now: a conductor that has died with the head needs its lease no more.
            preparing = self._begin(*parts)
            self._stage("Ray head")
            self._head.start(self._log)
            preparing.finish(self._log)
            self._serve()

    def _serve(self) -> None:
        self._begin("serve").finish(self._log, self._head_works)
        self._is_up = True
        self._seen_at = time.monotonic()
        self._stage("ready")
        self._run.say("ready", ready=True)

    def _keep_up(self) -> None:
        pause = 1.0
        while True:
            time.sleep(_LOOK_SECONDS)
            try:
                with _failures():
                    processes.reap()
                    self._head.keep_jobs(self._log)
                    if self._is_well():
                        self._run.say("ready", ready=True)  # unless it is said already; the disk may have been full
                        continue
                    self._mend()
                pause = 1.0
            except StartError as error:
                log.error("up.mend", error=str(error), again_in_seconds=pause)
                self._run.say(f"restarting: {error}", ready=False)
                time.sleep(pause)
                pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)

    def _is_well(self) -> bool:
        return self._is_up and self._head_works() and not self._conductor_is_gone()

    def _head_works(self) -> bool:
        """Whether GCS and raylet live, after whoever is hung has been ended."""
        for process in self._hangs.end(serving=self._is_up):
            log.warning("up.hung", name=process.name, pid=process.pid)
        return self._head.raylet_lives() and self._head.gcs_lives()

    def _mend(self) -> None:
        if not self._head.raylet_lives():
            log.warning("up.head_died")
            self._start_again()
        elif not self._head.gcs_lives():
            log.warning("up.gcs_died")
            self._mend_gcs()
        elif not self._is_up:
            self._begin("prepare").finish(self._log)
            self._serve()
        else:
            log.warning("up.conductor_gone")
            self._begin("actors").finish(self._log, self._head_works)
            self._seen_at = time.monotonic()

    def _mend_gcs(self) -> None:
        now = time.monotonic()
        self._gcs_tries = self._gcs_tries + 1 if now - self._gcs_at < _GCS_SECONDS else 1
        self._gcs_at = now
        if self._gcs_tries > _GCS_TRIES:
            self._start_again()
        else:
            self._head.restart_gcs(self._log)

    def _start_again(self) -> None:
        """Everything, the head first. The records are prepared since the first start."""
        self._run.say("restarting", ready=False)
        self._began = time.monotonic()
        self._head.stop()
        self._come_up("expire")

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
