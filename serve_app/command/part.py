"""A part of the launch (`serve_app.command.launch`), run in a short-lived process of its own.

StartError   the service did not come up; the message says why
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path

SECONDS = 400
_LOOK_SECONDS = 0.3


class StartError(Exception):
    """The service did not come up."""


class Part:
    """A running child. `stage` gets each line that it says, from another thread. Raises OSError."""

    def __init__(
        self, names: tuple[str, ...], state_dir: Path, environment: Mapping[str, str], stage: Callable[[str], None]
    ) -> None:
        self._stage = stage
        self._complaints: list[str] = []
        self._child = subprocess.Popen(
            [sys.executable, "-m", "serve_app.command.launch", str(state_dir), *names],
            env=dict(environment),
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        threading.Thread(target=self._relay, daemon=True).start()
        self._reader = threading.Thread(target=self._listen, daemon=True)
        self._reader.start()

    def finish(self, log: Path, makes_sense: Callable[[], bool] = lambda: True) -> None:
        """Wait until it has done its part; `log` gets what it complained of. `makes_sense` is asked several times a
        second: once it says no (what the part needs has died) the part is broken off. Raises StartError, OSError."""
        code = self._wait(makes_sense)
        self._reader.join(5)
        if code != 0:
            with log.open("a", encoding="utf-8") as file:
                file.writelines(self._complaints)
            lines = [line.strip() for line in self._complaints if line.strip()]
            raise StartError(lines[-1] if lines else f"the launching process ended with {code}; see {log}")

    def _wait(self, makes_sense: Callable[[], bool]) -> int:
        deadline = time.monotonic() + SECONDS
        because = f"the service was not up after {SECONDS} s"
        while time.monotonic() < deadline:
            with contextlib.suppress(subprocess.TimeoutExpired):
                return self._child.wait(_LOOK_SECONDS)
            if not makes_sense():
                because = "the Ray head died while the service was coming up"
                break
        self._child.kill()
        self._child.wait()
        raise StartError(because)

    def _relay(self) -> None:
        if self._child.stdout is not None:
            for line in self._child.stdout:
                self._stage(line.strip())

    def _listen(self) -> None:
        if self._child.stderr is not None:
            self._complaints.extend(self._child.stderr)
