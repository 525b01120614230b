"""A real Keystone on loopback: an environment of its own from `tests/keystone.lock`, SQLite, fernet, waitress."""

from __future__ import annotations

import hashlib
import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx

_TESTS = Path(__file__).resolve().parents[1]
_LOCK = _TESTS / "keystone.lock"
_VENV = _TESTS.parent / ".venv-keystone"
_CONFIG = """
[DEFAULT]
log_file = {root}/keystone.log
max_token_size = 300
[database]
connection = sqlite:///{root}/keystone.db
[token]
provider = fernet
expiration = {expiration}
[fernet_tokens]
key_repository = {root}/fernet-keys
[credential]
key_repository = {root}/credential-keys
[cache]
enabled = false
[identity]
password_hash_rounds = 4
[oslo_messaging_notifications]
driver = noop
"""
_SERVE = """
from keystone.wsgi.api import application
from waitress import serve
serve(application, host="127.0.0.1", port={port}, threads=4)
"""


def ensure_venv() -> Path:
    """The environment with exactly what the lock names; made anew when the lock has changed."""
    wanted = hashlib.sha256(_LOCK.read_bytes()).hexdigest()
    stamp = _VENV / "lock.sha256"
    if not stamp.exists() or stamp.read_text() != wanted:
        shutil.rmtree(_VENV, ignore_errors=True)
        subprocess.run([sys.executable, "-m", "venv", str(_VENV)], check=True)
        install = [str(_VENV / "bin" / "pip"), "install", "--quiet", "--require-hashes", "-r", str(_LOCK)]
        subprocess.run(install, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        stamp.write_text(wanted)
    return _VENV


class KeystoneServer:
    """Keystone with an administrator, a service user `cinder`, and whatever a test adds through `call`."""

    password = "not-a-secret-only-for-tests"

    def __init__(self, root: Path) -> None:
        self._root = root
        self._bin = ensure_venv() / "bin"
        self._config = root / "keystone.conf"
        self._process: subprocess.Popen[bytes] | None = None
        self._token: str | None = None
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port: int = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}/v3"

    def configure(self, expiration: int = 3600) -> None:
        """Say how long (seconds) new tokens live; in force from the next start."""
        self._config.write_text(_CONFIG.format(root=self._root, expiration=expiration))

    def prepare(self) -> None:
        """Make the database, the keys and the administrator."""
        self.configure()
        # Keystone wants a user and a group to give its keys to only when it runs as root.
        owner = ["--keystone-user", "root", "--keystone-group", "root"] if os.getuid() == 0 else []
        self._manage("db_sync")
        self._manage("fernet_setup", *owner)
        self._manage("credential_setup", *owner)
        urls = [word for kind in ("admin", "internal", "public") for word in (f"--bootstrap-{kind}-url", self.url)]
        self._manage("bootstrap", "--bootstrap-password", self.password, "--bootstrap-region-id", "RegionOne", *urls)

    def start(self) -> None:
        """Serve, and return when it answers."""
        # Not `waitress-serve`: Keystone reads its own options from whatever arguments the process has.
        command = [str(self._bin / "python"), "-c", _SERVE.format(port=self.port)]
        with (self._root / "server.log").open("ab") as log:
            self._process = subprocess.Popen(command, env=self._environment(), stdout=log, stderr=log)
        for _ in range(600):
            if self._process.poll() is not None:
                break
            try:
                if httpx.get(self.url, timeout=5, trust_env=False).status_code == 200:
                    return
            except httpx.HTTPError:
                time.sleep(0.1)
        raise RuntimeError("Keystone did not start:\n" + (self._root / "server.log").read_text()[-4000:])

    def kill(self) -> None:
        """End the process at once. Safe to repeat."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def login(self, user: str, password: str, project: str) -> str:
        """A token of the user in the project."""
        named = {"name": user, "domain": {"id": "default"}, "password": password}
        scope = {"project": {"name": project, "domain": {"id": "default"}}}
        identity = {"methods": ["password"], "password": {"user": named}}
        answer = self._request("POST", "/auth/tokens", {}, {"auth": {"identity": identity, "scope": scope}})
        return str(answer.headers["X-Subject-Token"])

    def call(self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None) -> Any:
        """A request as administrator; the reply's JSON."""
        if self._token is None:
            self._token = self.login("admin", self.password, "admin")
        answer = self._request(method, path, {"X-Auth-Token": self._token, **(headers or {})}, body)
        return answer.json() if answer.content else None

    def add_user(self, name: str, project_id: str, *roles: str) -> str:
        """A user with roles in the project; its id."""
        user = {"name": name, "password": self.password, "domain_id": "default"}
        user_id: str = self.call("POST", "/users", {"user": user})["user"]["id"]
        ids = {role["name"]: role["id"] for role in self.call("GET", "/roles")["roles"]}
        for role in roles:
            self.call("PUT", f"/projects/{project_id}/users/{user_id}/roles/{ids[role]}")
        return user_id

    def add_project(self, name: str) -> str:
        """A project; its id."""
        return str(self.call("POST", "/projects", {"project": {"name": name, "domain_id": "default"}})["project"]["id"])

    def _request(self, method: str, path: str, headers: dict[str, str], body: Any) -> httpx.Response:
        answer = httpx.request(method, f"{self.url}{path}", headers=headers, json=body, timeout=30, trust_env=False)
        answer.raise_for_status()
        return answer

    def _manage(self, *words: str) -> None:
        subprocess.run(
            [str(self._bin / "keystone-manage"), "--config-file", str(self._config), *words],
            check=True,
            env=self._environment(),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def _environment(self) -> dict[str, str]:
        return {**os.environ, "OS_KEYSTONE_CONFIG_FILES": str(self._config)}
