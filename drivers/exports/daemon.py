"""A serving process that outlives whoever started it: started once, found again, ended. Blocking; knows no protocol.

It inherits a lock on `<name>.lock`: whoever gets that lock knows that no such process lives, whatever became of its
files or of its starter. It writes its pid to `<name>.pid` once it serves; that pid counts only while it has that very
lock file open, so neither a name nor a number that was used again can be taken for it. Nobody connects to QEMU to find
out: 7.2 can die of a connection that comes and goes while it starts.

It runs in the foreground in a session of its own, and is no child of its starter (`setsid --fork`): Ray kills the
children of a worker that ends. It keeps the environment, and with it the mark by which an instance ends its processes.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import select
import shutil
import signal
import socket
import struct
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

from drivers.vocabulary import BackendUnavailableError

LISTENER: Final = "@listener@"
_PEER: Final = struct.Struct("=iII")
_LONGEST_SOCKET_NAME: Final = 107
_LOG_TAIL_BYTES: Final = 600
_BETWEEN_SECONDS: Final = 0.005
_KILL_SECONDS: Final = 10.0


class Daemon:
    """`command` runs it and tells it to write `pid_file`; `control` is a Unix socket that it must keep, if it has one;
    `package` is the Debian package that has it. Without `says_pid` it cannot write its pid, and is asked at its control
    socket, to which it must be harmless to connect at any time. `listener` makes a socket for it when it is started,
    whose number stands where `command` says `LISTENER`; what it raises (OSError) is why it cannot be started."""

    def __init__(
        self,
        name: str,
        directory: Path,
        command: Sequence[str],
        *,
        package: str,
        control: Path | None = None,
        says_pid: bool = True,
        environment: Mapping[str, str] | None = None,
        listener: Callable[[], socket.socket] | None = None,
        start_seconds: float = 20.0,
    ) -> None:
        self._directory = directory
        self._command = list(command)
        self._control = control
        self._says_pid = says_pid
        self._package = package
        self._environment = dict(environment or {})
        self._listener = listener
        self._start_seconds = start_seconds
        self._lock_file = directory / f"{name}.lock"
        self._log_file = directory / f"{name}.log"
        self._pid_file = pid_file(directory, name)

    def ensure(self) -> bool:
        """It runs and serves; whether this call started it. Raises BackendUnavailableError: the package is missing,
        it ended at once (its last words are told), it does not serve in time."""
        if self.pid() is not None:
            if self._control is None or self._control.exists():
                return False
            self.end(0.0)  # its socket was removed: nobody can command it any more
        if shutil.which(self._command[0]) is None:
            raise BackendUnavailableError(f"{self._command[0]} is missing; apt-get install {self._package}")
        if self._control is not None and len(os.fsencode(self._control)) > _LONGEST_SOCKET_NAME:
            raise BackendUnavailableError(f"{self._control} is too long for a socket; set a shorter directory")
        try:
            return self._start()
        except OSError as error:
            raise BackendUnavailableError(f"cannot start {self._command[0]}: {error}") from error

    def pid(self) -> int | None:
        """The process if it serves, or None."""
        if self._says_pid:
            return self._checked()
        if (pid := self._checked()) is None and (peer := self._peer()):
            self._pid_file.write_text(str(peer), encoding="ascii")
            pid = self._checked()
        return pid

    def _peer(self) -> int:
        """Who listens on the control socket, as the kernel tells; 0 for nobody."""
        with contextlib.closing(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)) as trial:
            trial.setblocking(False)
            try:
                trial.connect(str(self._control))
            except OSError:
                return 0
            return int(_PEER.unpack(trial.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER.size))[0])

    def _checked(self) -> int | None:
        try:
            pid = int(self._pid_file.read_text(encoding="ascii"))
            held = int(self._lock_file.read_text(encoding="ascii"))
            mine, its = self._lock_file.stat(), Path(f"/proc/{pid}/fd/{held}").stat()
        except (OSError, ValueError):
            return None
        return pid if (mine.st_dev, mine.st_ino) == (its.st_dev, its.st_ino) else None

    def end(self, grace_seconds: float = 5.0) -> None:
        """No such process any more: it is asked, and killed after the grace. Raises BackendUnavailableError when even
        then it does not go."""
        if not self._directory.is_dir():
            return
        with self._held_lock() as lock:
            deadline = time.monotonic() + self._start_seconds
            while not _take(lock):  # it serves, or is just starting
                if time.monotonic() > deadline:
                    raise BackendUnavailableError(f"a process holds {self._lock_file} and does not end; end it")
                self._signal(grace_seconds)
                time.sleep(_BETWEEN_SECONDS)
            self._pid_file.unlink(missing_ok=True)

    def _signal(self, grace_seconds: float) -> None:
        pid = self.pid()
        if pid is None:
            return
        with contextlib.suppress(ProcessLookupError):
            handle = os.pidfd_open(pid)
            try:
                if self.pid() != pid:
                    return
                for number, seconds in ((signal.SIGTERM, grace_seconds), (signal.SIGKILL, _KILL_SECONDS)):
                    signal.pidfd_send_signal(handle, number)
                    if select.select([handle], [], [], seconds)[0]:
                        return
            finally:
                os.close(handle)

    def _start(self) -> bool:
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        with self._held_lock() as lock:
            deadline = time.monotonic() + self._start_seconds
            while not _take(lock):  # somebody else is starting it, who may be dead
                if self.pid() is not None:
                    return False
                if time.monotonic() > deadline:
                    raise BackendUnavailableError(f"a process holds {self._lock_file} and does not serve; end it")
                time.sleep(_BETWEEN_SECONDS)
            self._pid_file.unlink(missing_ok=True)
            os.ftruncate(lock, 0)
            os.pwrite(lock, str(lock).encode(), 0)  # the descriptor has the same number in the daemon
            self._spawn(lock)
        # Crash window: it runs and has not said its pid; the next `ensure` waits for it at the lock.
        self._await_serving()
        return True

    def _spawn(self, lock: int) -> None:
        with contextlib.ExitStack() as held:
            log = os.open(self._log_file, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
            held.callback(os.close, log)
            command, passed = self._command, [lock]
            if self._listener is not None:
                passed.append(held.enter_context(self._listener()).fileno())
                command = [part.replace(LISTENER, str(passed[-1])) for part in command]
            self._run(command, log, passed)

    def _run(self, command: Sequence[str], log: int, passed: Sequence[int]) -> None:
        try:
            done = subprocess.run(
                ["setsid", "--fork", *command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd="/",
                env={**os.environ, **self._environment},
                pass_fds=passed,
                timeout=self._start_seconds,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise BackendUnavailableError(f"{self._command[0]} could not be started in time") from error
        if done.returncode != 0:
            raise BackendUnavailableError(f"{self._command[0]} could not be started: {self._last_words()}")

    def _await_serving(self) -> None:
        deadline = time.monotonic() + self._start_seconds
        with self._held_lock() as lock:
            while self.pid() is None:
                if _take(lock):
                    raise BackendUnavailableError(f"{self._command[0]} ended at once: {self._last_words()}")
                if time.monotonic() > deadline:
                    raise BackendUnavailableError(
                        f"{self._command[0]} does not serve after {self._start_seconds:g} s: {self._last_words()}"
                    )
                time.sleep(_BETWEEN_SECONDS)

    @contextlib.contextmanager
    def _held_lock(self) -> Iterator[int]:
        descriptor = os.open(self._lock_file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            yield descriptor
        finally:
            os.close(descriptor)

    def _last_words(self) -> str:
        try:
            with self._log_file.open("rb") as stream:
                stream.seek(max(0, self._log_file.stat().st_size - _LOG_TAIL_BYTES))
                return stream.read().decode(errors="replace").strip() or "it said nothing"
        except OSError:
            return "it said nothing"


def _take(lock: int) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno != errno.EWOULDBLOCK:
            raise
        return False
    return True


def pid_file(directory: Path, name: str) -> Path:
    """Where a daemon of this name is to write its pid."""
    return directory / f"{name}.pid"
