"""A part of the launch (`serve_app.command.launch`), run in a short-lived process of its own.

StartError   the service did not come up; the message says why
"""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from pathlib import Path

SECONDS = 400


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

    def finish(self, log: Path) -> None:
        """Wait until it has done its part; `log` gets what it complained of. Raises StartError, OSError."""
        try:
            code = self._child.wait(SECONDS)
        except subprocess.TimeoutExpired as error:
            self._child.kill()
            raise StartError(f"the service was not up after {SECONDS} s") from error
        self._reader.join(5)
        if code != 0:
            with log.open("a", encoding="utf-8") as file:
                file.writelines(self._complaints)
            lines = [line.strip() for line in self._complaints if line.strip()]
            raise StartError(lines[-1] if lines else f"the launching process ended with {code}; see {log}")

    def _relay(self) -> None:
        if self._child.stdout is not None:
            for line in self._child.stdout:
                self._stage(line.strip())

    def _listen(self) -> None:
        if self._child.stderr is not None:
            self._complaints.extend(self._child.stderr)
