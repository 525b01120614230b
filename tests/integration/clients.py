"""Users of a service: a project and a user of one's own, and the stock clients as that user.

Every module works in a project of its own, so that quotas, lists and names of others do not matter to it; `purge`
leaves nothing behind.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cinderclient.client
import httpx
import keystoneauth1.identity.v3
import keystoneauth1.session
import openstack.connection
import yaml

from tests.integration.conftest import Service
from tests.integration.warm_commands import COMMANDS

_BIN = Path(sys.executable).parent
NEWEST = 71


def eventually(condition: Callable[[], Any], what: str, seconds: float = 60) -> Any:
    """Ask until the answer is true, and return it; the test fails with `what` after `seconds`."""
    deadline = time.monotonic() + seconds
    while not (answer := condition()):
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        time.sleep(0.1)
    return answer


def program(name: str) -> str:
    """A client's command, from this virtual environment."""
    path = _BIN / name
    assert path.exists(), f"{path} is missing: pip install -e '.[dev]'"
    return str(path)


class CommandError(Exception):
    """A client's command ended with an error; the message is what it said."""


@dataclass
class Cloud:
    """A user in a project of a service. `password` is not shown."""

    service: Service
    project: str
    user: str
    password: str = field(repr=False)
    clouds_yaml: Path
    _http: httpx.Client | None = field(default=None, repr=False)
    _token: tuple[str, str] | None = field(default=None, repr=False)

    @property
    def auth(self) -> dict[str, str]:
        """What keystoneauth's password plugin wants."""
        return {
            "auth_url": f"{self.service.endpoint}/identity/v3",
            "username": self.user,
            "password": self.password,
            "project_name": self.project,
            "user_domain_name": "Default",
            "project_domain_name": "Default",
        }

    # The command-line clients.

    def run(self, *arguments: str, timeout: float = 90, cold: bool = False) -> subprocess.CompletedProcess[str]:
        """`openstack ARGUMENTS` to its end, whatever that is; `cold`: as a program of its own."""
        environment = {**self.service.environment(), "OS_CLIENT_CONFIG_FILE": str(self.clouds_yaml)}
        arguments = ("--os-cloud", "pumice", *arguments)
        if not cold:
            return COMMANDS.run("openstack", arguments, environment, timeout)
        command = [program("openstack"), *arguments]
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=timeout, check=False)

    def openstack(self, *arguments: str) -> str:
        """What `openstack ARGUMENTS` prints. Raises CommandError."""
        done = self.run(*arguments)
        if done.returncode != 0:
            raise CommandError(f"openstack {' '.join(arguments)}: {done.stderr.strip() or done.stdout.strip()}")
        return done.stdout

    def ask(self, *arguments: str) -> Any:
        """The JSON that `openstack ARGUMENTS -f json` prints. Raises CommandError."""
        return json.loads(self.openstack(*arguments, "-f", "json"))

    def cinder(self, *arguments: str, version: str = f"3.{NEWEST}") -> str:
        """What `cinder ARGUMENTS` prints at a microversion. Raises CommandError."""
        variables = {f"OS_{key.upper()}": value for key, value in self.auth.items()}
        environment = {**self.service.environment(), **variables}
        done = COMMANDS.run("cinder", ("--os-volume-api-version", version, *arguments), environment, 90)
        if done.returncode != 0:
            raise CommandError(f"cinder {' '.join(arguments)}: {done.stderr.strip() or done.stdout.strip()}")
        return done.stdout

    # The libraries.

    def session(self) -> keystoneauth1.session.Session:
        """A session of keystoneauth."""
        return keystoneauth1.session.Session(auth=keystoneauth1.identity.v3.Password(**self.auth))

    def sdk(self, **options: Any) -> openstack.connection.Connection:
        """A connection of openstacksdk."""
        return openstack.connection.Connection(
            auth=self.auth, auth_type="password", region_name="RegionOne", app_name="pumice-tests", **options
        )

    def cinderclient(self, minor: int = NEWEST) -> Any:
        """python-cinderclient at a microversion."""
        return cinderclient.client.Client(f"3.{minor}", session=self.session(), region_name="RegionOne")

    # Plain HTTP.

    @property
    def http(self) -> httpx.Client:
        """A client without any credentials; paths are below the endpoint."""
        if self._http is None:
            self._http = httpx.Client(base_url=self.service.endpoint, timeout=60, trust_env=False)
        return self._http

    def login(self) -> tuple[str, str]:
        """A new token and the project's id."""
        names = {"domain": {"name": "Default"}}
        who = {"methods": ["password"], "password": {"user": {"name": self.user, "password": self.password, **names}}}
        body = {"auth": {"identity": who, "scope": {"project": {"name": self.project, **names}}}}
        answer = self.http.post("/identity/v3/auth/tokens", json=body)
        assert answer.status_code == 201, answer.text
        return answer.headers["x-subject-token"], answer.json()["token"]["project"]["id"]

    @property
    def token(self) -> str:
        """A token, the same at each use."""
        self._token = self._token or self.login()
        return self._token[0]

    @property
    def project_id(self) -> str:
        """The project's id."""
        self._token = self._token or self.login()
        return self._token[1]

    def call(self, method: str, path: str, json: Any = None, *, minor: int | str | None = None, **more: Any) -> Any:
        """The answer (httpx.Response) to a request below `/v3/{project_id}`."""
        headers = {"X-Auth-Token": self.token, **more.pop("headers", {})}
        if minor is not None:
            headers["OpenStack-API-Version"] = f"volume 3.{minor}" if isinstance(minor, int) else minor
        return self.http.request(method, f"/v3/{self.project_id}{path}", json=json, headers=headers, **more)

    # What nearly every test does.

    def create(self, size: int = 1, **values: Any) -> dict[str, Any]:
        """An available volume."""
        answer = self.call("POST", "/volumes", {"volume": {"size": size, **values}}, minor=NEWEST)
        assert answer.status_code == 202, answer.text
        return self.settled("volumes", answer.json()["volume"]["id"])

    def snapshot(self, volume_id: str, **values: Any) -> dict[str, Any]:
        """An available snapshot."""
        answer = self.call("POST", "/snapshots", {"snapshot": {"volume_id": volume_id, **values}}, minor=NEWEST)
        assert answer.status_code == 202, answer.text
        return self.settled("snapshots", answer.json()["snapshot"]["id"])

    def show(self, collection: str, item_id: str, minor: int = NEWEST) -> dict[str, Any]:
        """A volume or a snapshot as it is now."""
        answer = self.call("GET", f"/{collection}/{item_id}", minor=minor)
        assert answer.status_code == 200, answer.text
        return dict(answer.json()[collection.removesuffix("s")])

    def settled(self, collection: str, item_id: str, status: str = "available") -> dict[str, Any]:
        """It, once nothing is under way any more; then its status must be `status`."""
        transient = ("creating", "extending", "deleting")
        item = eventually(
            lambda: (found := self.show(collection, item_id))["status"] not in transient and found,
            f"{collection} {item_id} settles",
        )
        assert item["status"] == status, item
        return dict(item)

    def delete(self, collection: str, item_id: str) -> None:
        """Delete it, and wait until it is gone."""
        answer = self.call("DELETE", f"/{collection}/{item_id}", minor=NEWEST)
        assert answer.status_code == 202, answer.text
        self.gone(collection, item_id)

    def gone(self, collection: str, item_id: str) -> None:
        """Wait until it is not found any more."""
        path = f"/{collection}/{item_id}"
        eventually(lambda: self.call("GET", path, minor=NEWEST).status_code == 404, f"{path} is gone")

    def purge(self) -> None:
        """Delete all volumes and snapshots of the project."""

        def ids(collection: str) -> list[str]:
            listed = self.call("GET", f"/{collection}", minor=NEWEST)
            return [item["id"] for item in listed.json()[collection]]

        for collection in ("snapshots", "volumes"):
            eventually(lambda name=collection: self._force_delete(name, ids(name)), f"no {collection} are left")

    def _force_delete(self, collection: str, ids: list[str]) -> bool:
        for item_id in ids:
            self.call("POST", f"/{collection}/{item_id}/action", {"os-force_delete": None}, minor=NEWEST)
        return not ids


def administrator(service: Service) -> Cloud:
    """The user of the service's own clouds.yaml."""
    auth = yaml.safe_load(service.clouds_yaml.read_text())["clouds"]["pumice"]["auth"]
    return Cloud(service, auth["project_name"], auth["username"], auth["password"], service.clouds_yaml)


def new_cloud(service: Service, name: str, role: str = "admin", project: str | None = None) -> Cloud:
    """A new user with `role` in a new project (or one that is there), made through the identity API."""
    admin = administrator(service)
    headers = {"X-Auth-Token": admin.token}
    unique = f"{name}-{uuid.uuid4().hex[:6]}"

    def ask(method: str, path: str, body: Any = None) -> Any:
        answer = admin.http.request(method, f"/identity/v3{path}", json=body, headers=headers)
        assert answer.status_code < 300, answer.text
        return answer.json() if answer.content else None

    if project is None:
        project = unique
        ask("POST", "/projects", {"project": {"name": project}})
    project_id = ask("GET", f"/projects?name={project}")["projects"][0]["id"]
    password = uuid.uuid4().hex
    user_id = ask("POST", "/users", {"user": {"name": unique, "password": password}})["user"]["id"]
    role_id = ask("GET", f"/roles?name={role}")["roles"][0]["id"]
    ask("PUT", f"/projects/{project_id}/users/{user_id}/roles/{role_id}")
    cloud = Cloud(service, project, unique, password, service.state_dir / f"clouds-{unique}.yaml")
    entry = {"auth": cloud.auth, "region_name": "RegionOne", "identity_api_version": "3", "volume_api_version": "3"}
    cloud.clouds_yaml.write_text(yaml.safe_dump({"clouds": {"pumice": entry}}))
    return cloud


@contextmanager
def project_of(service: Service, name: str, role: str = "admin") -> Iterator[Cloud]:
    """A user in a project of its own, emptied at the end."""
    cloud = new_cloud(service, name, role)
    try:
        yield cloud
    finally:
        cloud.purge()
        if cloud._http is not None:
            cloud._http.close()
