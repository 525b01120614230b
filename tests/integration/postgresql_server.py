"""A real PostgreSQL server for the session, from Debian's package: its own directory in /tmp, a loopback port, scram.

It refuses to run as root, so root runs it as the package's user `postgres`. Nothing is installed here.
"""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path

import psycopg
from sqlalchemy import URL, make_url

_BINARIES = Path("/usr/lib/postgresql")
_START_SECONDS = 30
USER = "pumice"


class PostgresqlServer:
    """Start, databases in it, stop. The directory goes with `remove`."""

    def __init__(self) -> None:
        self._programs = _newest_programs()
        self._directory = Path(tempfile.mkdtemp(prefix="pumice-postgresql-"))
        self._data = self._directory / "data"
        self._password = secrets.token_hex(8)
        self._port = _free_port()
        self._process: subprocess.Popen[bytes] | None = None
        self._count = 0
        self._user: str | None = None
        if os.geteuid() == 0:
            self._user = "postgres"
            account = pwd.getpwnam(self._user)
            os.chown(self._directory, account.pw_uid, account.pw_gid)
        self._begin()

    def _begin(self) -> None:
        secret = self._directory / "password"
        secret.write_text(self._password)
        if self._user is not None:
            shutil.chown(secret, self._user)
        arguments = [f"--pgdata={self._data}", f"--username={USER}", f"--pwfile={secret}", "--auth=scram-sha-256"]
        done = self._run("initdb", *arguments, "--encoding=UTF8", "--locale=C.UTF-8", "--no-sync")
        assert done.returncode == 0, done.stderr

    def _run(self, program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(self._programs / program), *arguments],
            user=self._user,
            group=self._user,
            extra_groups=[] if self._user else None,
            cwd=self._directory,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def start(self) -> None:
        """Start it and wait until it answers."""
        # fsync off: these tests are not about what a power cut leaves.
        settings = {
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": str(self._directory),
            "fsync": "off",
            "max_connections": "100",
            "log_min_messages": "warning",
        }
        with (self._directory / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [str(self._programs / "postgres"), "-D", str(self._data), "-p", str(self._port)]
                + [part for key, value in settings.items() for part in ("-c", f"{key}={value}")],
                user=self._user,
                group=self._user,
                extra_groups=[] if self._user else None,
                cwd=self._directory,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        deadline = time.monotonic() + _START_SECONDS
        while True:
            try:
                self.connect("postgres").close()
            except psycopg.OperationalError:
                text = (self._directory / "log").read_text(errors="replace")
                assert self._process.poll() is None, text
                assert time.monotonic() < deadline, text
                time.sleep(0.05)
            else:
                return

    def stop(self) -> None:
        """Stop it ("fast": connections are cut); the data stay."""
        if self._process is None:
            return
        self._process.send_signal(signal.SIGINT)
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.send_signal(signal.SIGQUIT)
            self._process.wait(20)
        self._process = None

    def kill(self) -> None:
        """End its first process at once (SIGKILL); the others notice. `start` recovers what was committed."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(20)
            self._process = None

    def remove(self) -> None:
        """Stop it and forget all data."""
        self.stop()
        shutil.rmtree(self._directory)

    def connect(self, database: str) -> psycopg.Connection[tuple[object, ...]]:
        """A plain connection, committing each statement."""
        return psycopg.connect(
            host="127.0.0.1", port=self._port, user=USER, password=self._password, dbname=database, autocommit=True
        )

    def new_database(self, template: str = "") -> str:
        """A database, empty or a copy of that at the URL `template`; its URL."""
        self._count += 1
        name = f"pumice_{self._count}"
        source = make_url(template).database if template else "template1"
        with self.connect("postgres") as db:
            db.execute(f"CREATE DATABASE {name} TEMPLATE {source}".encode())
        url = URL.create("postgresql+psycopg", USER, self._password, "127.0.0.1", self._port, name)
        return url.render_as_string(hide_password=False)


def _newest_programs() -> Path:
    found = sorted(_BINARIES.glob("*/bin/postgres"), key=lambda path: int(path.parts[-3]))
    assert found, "PostgreSQL's server is missing: apt-get install postgresql"
    return found[-1].parent


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
