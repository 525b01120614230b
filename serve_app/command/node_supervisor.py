"""The process behind `pumice join`: it brings this machine's node into the cluster, brings it back when it has died or
the head has given it up, and takes it down at the end. It opens no database and holds no connection to Ray.
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import structlog

from actors import processes
from actors.instance import InstanceError
from actors.joined_node import JoinedNode
from actors.ray_start import RayStartError
from cluster.settings import SettingsError
from cluster.storage_network.settings import StorageNetworkSettings
from serve_app.command.output import begin_anew
from serve_app.command.part import StartError
from serve_app.command.release import release
from serve_app.command.run_file import RunFile
from serve_app.command.stopping import Stop, heed_signals, ignore_signals

_LOOK_SECONDS = 0.3
_ADMISSION_SECONDS = 90
_FIRST_TRIES = 3
# Not longer: a node that was cut off should be back soon after its link is.
_LONGEST_PAUSE_SECONDS = 4.0
log = structlog.get_logger("pumice.join")


class NotAdmittedError(StartError):
    """The head does not answer, or refuses us, or this machine has not the network that was asked for."""


class NodeSupervisor:
    """One run. `tell` gets a line for people at each stage."""

    def __init__(
        self, state_dir: Path, node: JoinedNode, run: RunFile, head: str, host_name: str, tell: Callable[[str], None]
    ) -> None:
        self._state_dir, self._node, self._run, self._tell = state_dir, node, run, tell
        self._head, self._host_name = head, host_name
        self._log = state_dir / "logs" / "ray.log"
        self._began = time.monotonic()

    def run(self) -> list[str]:
        """Join, stay joined until SIGINT or SIGTERM, leave; return what could not be given back.

        Raises StartError when the first try fails; everything is stopped by then.
        """
        processes.adopt_orphans()
        heed_signals()
        try:
            with contextlib.suppress(OSError):  # then it goes on in the old one
                begin_anew(self._log)
            self._join_at_first()
            self._keep_joined()
        except Stop:
            self._stage("stopping")
        finally:
            ignore_signals()
            self._run.say("stopping", ready=False)
            troubles = release(self._state_dir)
            self._run.clear()
        return troubles

    def _join_at_first(self) -> None:
        for left in reversed(range(_FIRST_TRIES)):
            try:
                self._join()
            except NotAdmittedError:
                raise
            except StartError as error:
                if not left:
                    raise
                log.warning("join.first", error=str(error))  # a starved machine may be too slow for Ray
                self._node.stop()
            else:
                return

    def _join(self) -> None:
        try:
            network = self._ask()
            self._stage("Ray node")
            self._node.start(self._log, network)
        except SettingsError as error:
            raise NotAdmittedError(str(error)) from error
        except (RayStartError, InstanceError, OSError) as error:
            raise StartError(str(error)) from error
        self._stage(f"joined as {self._host_name}")
        self._run.say("joined", ready=True)

    def _ask(self) -> StorageNetworkSettings:
        """Return when we may join, with what the instance says of storage networks. Raises NotAdmittedError,
        StartError."""
        try:
            done = subprocess.run(
                [sys.executable, "-m", "serve_app.command.admission", self._head, self._host_name],
                env=self._node.environment,
                cwd="/",
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                start_new_session=True,
                timeout=_ADMISSION_SECONDS,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise StartError(f"the head at {self._head} did not answer within {_ADMISSION_SECONDS} s") from error
        if done.returncode != 0:
            lines = done.stderr.strip().splitlines()
            raise NotAdmittedError(lines[-1] if lines else f"asking the head ended with {done.returncode}")
        try:
            return StorageNetworkSettings.model_validate_json(done.stdout.strip().splitlines()[-1])
        except (ValueError, IndexError) as error:
            raise StartError(
                f"the head at {self._head} says of storage networks what is not understood here"
            ) from error

    def _keep_joined(self) -> None:
        pause = 1.0
        while True:
            time.sleep(_LOOK_SECONDS)
            try:
                processes.reap()
                for process in self._node.end_hung():
                    log.warning("join.hung", name=process.name, pid=process.pid)
                if self._node.lives():
                    pause = 1.0
                    continue
                if self._run.ready:
                    log.warning("join.node_died")
                    self._began = time.monotonic()
                    self._stage("the node has died, or the head has given it up; joining again")
                self._run.say("joining again", ready=False)
                self._node.stop()
                self._join()
            except (StartError, OSError) as error:
                log.error("join.again", error=str(error), again_in_seconds=pause)
                self._run.say(f"joining again: {error}", ready=False)
                time.sleep(pause)
                pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)

    def _stage(self, stage: str) -> None:
        log.info("join.stage", stage=stage)
        with contextlib.suppress(OSError):  # a full disk, a terminal that is gone: nobody to tell it to
            self._tell(f"{time.monotonic() - self._began:6.1f} s  {stage}")
