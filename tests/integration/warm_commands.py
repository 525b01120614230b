"""The clients' commands without the second that each needs to load its code: one process loads it, and forks for each
command. What runs in the child is the command's own entry point, with its own arguments, environment and output.

    python -m tests.integration.warm_commands      reads requests from standard input and answers on standard output
"""

from __future__ import annotations

import contextlib
import io
import json
import logging
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from pathlib import Path

_MODULES = ("openstackclient.shell", "cinderclient.shell", "cinderclient.v3.shell", "openstack.connection")
# Runs that reach no server and make the clients find their plugins and commands.
_WARMING = (
    ("openstack", ["volume", "list", "--help"]),
    ("openstack", ["project", "list", "--help"]),
    ("cinder", ["help", "list"]),
)


class WarmCommands:
    """The loaded process, started at its first use. Safe to use from several threads; one command at a time."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None
        self._turn = threading.Lock()

    def run(
        self, program: str, arguments: Sequence[str], environment: Mapping[str, str], timeout: float
    ) -> subprocess.CompletedProcess[str]:
        """As `subprocess.run` with captured text. Raises TimeoutExpired."""
        with self._turn, tempfile.TemporaryDirectory() as folder:
            out, err = Path(folder, "out"), Path(folder, "err")
            request = {
                "program": program,
                "arguments": list(arguments),
                "environment": dict(environment),
                "out": str(out),
                "err": str(err),
            }
            process = self._running()
            assert process.stdin is not None
            assert process.stdout is not None
            watch = threading.Timer(timeout, process.kill)
            watch.start()
            try:
                process.stdin.write(json.dumps(request) + "\n")
                process.stdin.flush()
                answer = process.stdout.readline()
            finally:
                watch.cancel()
            if not answer:
                self._process = None
                raise subprocess.TimeoutExpired([program, *arguments], timeout, err.read_bytes())
            return subprocess.CompletedProcess(
                [program, *arguments], int(answer), out.read_text(errors="replace"), err.read_text(errors="replace")
            )

    def _running(self) -> subprocess.Popen[str]:
        if self._process is None or self._process.poll() is not None:
            self._process = subprocess.Popen(
                [sys.executable, "-m", __name__],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,  # what the warming runs say; a command's own goes to its file
                text=True,
            )
        return self._process


COMMANDS = WarmCommands()


def _entry(program: str) -> Callable[[list[str]], int | None]:
    main: Callable[[list[str]], int | None]
    if program == "openstack":
        from openstackclient.shell import main
    else:
        from cinderclient.shell import OpenStackCinderShell

        def main(arguments: list[str]) -> int | None:
            sys.argv = ["cinder", *arguments]
            OpenStackCinderShell().main(arguments)
            return 0

    return main


def _status(program: str, arguments: list[str]) -> int:
    """What the command's process would end with."""
    try:
        return _entry(program)(arguments) or 0
    except SystemExit as end:
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
            return 1
        return int(end.code or 0)
    except Exception as error:  # as cinder's own entry point does
        print(f"ERROR: {error}", file=sys.stderr)
        return 1


def _child(request: dict[str, object]) -> None:
    os.environ.clear()
    os.environ.update(request["environment"])  # type: ignore[arg-type]
    for descriptor, name in ((1, "out"), (2, "err")):
        file = os.open(str(request[name]), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        os.dup2(file, descriptor)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    sys.stdout, sys.stderr = (os.fdopen(descriptor, "w") for descriptor in (1, 2))
    sys.argv[0] = str(request["program"])
    code = _status(str(request["program"]), list(request["arguments"]))  # type: ignore[call-overload]
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _forget_logging() -> None:
    # The warming runs have set it up, for streams that are gone.
    for logger in (logging.root, *map(logging.getLogger, list(logging.root.manager.loggerDict))):
        logger.handlers.clear()
        logger.setLevel(logging.NOTSET)
    logging.root.setLevel(logging.WARNING)


def serve() -> None:
    """Load everything, then fork for each request until the input ends."""
    for module in _MODULES:
        import_module(module)
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        for program, arguments in _WARMING:
            _status(program, list(arguments))
    _forget_logging()
    for line in sys.stdin:
        pid = os.fork()
        if pid == 0:
            _child(json.loads(line))
        _, status = os.waitpid(pid, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


if __name__ == "__main__":
    serve()
