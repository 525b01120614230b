"""A token and the endpoint of the volume service, from Keystone's API (Pumice's own identity speaks it as well)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from tests.bench.client import Client

_TYPES = ("block-storage", "volumev3", "volume")


class SignInError(Exception):
    """There is no such cloud, or it does not let us in."""


def cloud_of(files: list[Path], name: str | None) -> Mapping[str, Any]:
    """The cloud `name` (None: the only one) of the first of these clouds.yaml files that exists. Raises SignInError."""
    for file in files:
        if file.exists():
            clouds: dict[str, Any] = yaml.safe_load(file.read_text(encoding="utf-8"))["clouds"]
            if name is None and len(clouds) == 1:
                name = next(iter(clouds))
            if name not in clouds:
                raise SignInError(f"{file} has no cloud {name!r}; it has {', '.join(clouds)}")
            found: Mapping[str, Any] = clouds[name]
            return found
    raise SignInError(f"there is no clouds.yaml at {' or '.join(map(str, files))}")


def sign_in(cloud: Mapping[str, Any]) -> tuple[str, str]:
    """The endpoint of the volume service for the cloud's project, and a token. Raises SignInError."""
    auth = cloud["auth"]
    password = {
        "name": auth["username"],
        "password": auth["password"],
        "domain": _domain(auth, "user"),
    }
    scope = {"project": {"name": auth["project_name"], "domain": _domain(auth, "project")}}
    body = {
        "auth": {"identity": {"methods": ["password"], "password": {"user": password}}, "scope": scope},
    }
    answer = Client(auth["auth_url"], microversion=None).call("POST", "/auth/tokens", body)
    if not answer.good:
        raise SignInError(f"{auth['auth_url']} answered {answer.status}: {answer.body.decode(errors='replace')[:200]}")
    for service in answer.json()["token"]["catalog"]:
        if service["type"] in _TYPES:
            for endpoint in service["endpoints"]:
                if endpoint["interface"] == "public":
                    return str(endpoint["url"]), answer.headers["x-subject-token"]
    raise SignInError(f"the catalog of {auth['auth_url']} has no volume service")


def _domain(auth: Mapping[str, Any], whose: str) -> dict[str, str]:
    if identity := auth.get(f"{whose}_domain_id"):
        return {"id": str(identity)}
    return {"name": str(auth.get(f"{whose}_domain_name", "Default"))}
