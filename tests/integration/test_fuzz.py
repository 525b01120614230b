"""Schemathesis on the document that the service serves: whatever comes in, never an answer of 500 or above.

Data that fit the document and data that do not. Half of the requests name a volume, a snapshot, an attachment, a type
and QoS specs that are there, so that more than the 404 is reached. The examples are the same in every run
(`derandomize`).
"""

from __future__ import annotations

import re
import uuid
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import APIOperation, GenerationMode

from serve_app.app import ACTIONS, ROUTES
from serve_app.wire.openapi import document
from tests.integration.clients import NEWEST, Cloud, project_of
from tests.integration.conftest import Service

pytestmark = [pytest.mark.timeout(600), pytest.mark.filterwarnings("ignore::Warning")]
_VERSIONS = ("3.0", "3.31", "3.53", "latest")
# These would take the shared instance from the other tests.
_LEFT_ALONE = re.compile(r"PUT /(os-services|os-quota-class-sets)/")
_METHODS = ("get", "post", "put", "delete", "head", "patch")
_LABELS = [
    f"{method.upper()} {path}"
    for path, item in document(ROUTES, ACTIONS)["paths"].items()
    for method in item
    if method in _METHODS
]


@dataclass
class Ground:
    """The project that is worked on, and things in it that are there."""

    cloud: Cloud
    type_id: str
    calls: int = 0
    statuses: Counter[int] = field(default_factory=Counter)
    _ids: dict[str, str] | None = None

    def ids(self, *wanted: str) -> dict[str, str]:
        """Path parameters that name something, those `wanted` among them; what a request has deleted is made again."""
        known = self._ids
        if known is None or self.cloud.call("GET", f"/snapshots/{known['snapshot_id']}").status_code != 200:
            clear(self.cloud)
            volume = self.cloud.create(1)["id"]
            self._ids = known = {"volume_id": volume, "snapshot_id": self.cloud.snapshot(volume)["id"]}
        for name, path, make in (
            ("attachment_id", "/attachments", self._attach),
            ("qos_id", "/qos-specs", self._limit),
        ):
            if name in wanted and (
                name not in known or self.cloud.call("GET", f"{path}/{known[name]}", minor=NEWEST).status_code != 200
            ):
                known[name] = make()
        return {**known, "type_id": self.type_id, "quota_project_id": self.cloud.project_id, "key": "k"}

    def _attach(self) -> str:
        """An attachment of a volume that the snapshot is not of; requests have made some, up to the quota."""
        assert self._ids is not None
        there = self.cloud.call("GET", "/volumes?status=available").json()["volumes"]
        spare = [one["id"] for one in there if one["id"] != self._ids["volume_id"]]
        body = {"attachment": {"volume_uuid": spare[0] if spare else self.cloud.create(1)["id"]}}
        answer = self.cloud.call("POST", "/attachments", body, minor=NEWEST)
        assert answer.status_code == 200, answer.text
        return str(answer.json()["attachment"]["id"])

    def _limit(self) -> str:
        """QoS specs."""
        body = {"qos_specs": {"name": f"fuzz-{uuid.uuid4().hex}", "total_iops_sec": "100"}}
        answer = self.cloud.call("POST", "/qos-specs", body)
        assert answer.status_code == 200, answer.text
        return str(answer.json()["qos_specs"]["id"])


@pytest.fixture(scope="module")
def ground(service: Service) -> Iterator[Ground]:
    """A project, and a type; types that the requests make are removed at the end."""
    with project_of(service, "fuzz") as cloud:
        before = {one["id"] for one in _types(cloud)}
        limits_before = {one["id"] for one in cloud.call("GET", "/qos-specs").json()["qos_specs"]}
        made = cloud.call("POST", "/types", {"volume_type": {"name": f"fuzz-{cloud.project}"}})
        try:
            yield Ground(cloud, made.json()["volume_type"]["id"])
        finally:
            clear(cloud)
            for one in cloud.call("GET", "/default-types", minor=67).json()["default_types"]:
                cloud.call("DELETE", f"/default-types/{one['project_id']}", minor=67)
            for one in _types(cloud):
                if one["id"] not in before:
                    cloud.call("DELETE", f"/types/{one['id']}")
            for one in cloud.call("GET", "/qos-specs").json()["qos_specs"]:
                if one["id"] not in limits_before:
                    cloud.call("DELETE", f"/qos-specs/{one['id']}?force=True")


def clear(cloud: Cloud) -> None:
    """No attachments, volumes and snapshots are left in the project."""
    for one in cloud.call("GET", "/attachments", minor=NEWEST).json()["attachments"]:
        cloud.call("DELETE", f"/attachments/{one['id']}", minor=NEWEST)
    cloud.purge()


def _types(cloud: Cloud) -> list[dict[str, Any]]:
    return list(cloud.call("GET", "/types?is_public=None").json()["volume_types"])


@pytest.fixture(scope="module")
def operations(ground: Ground) -> dict[str, APIOperation]:
    """The operations that `GET /openapi.json` lists, by method and path."""
    loaded = schemathesis.openapi.from_url(
        f"{ground.cloud.service.endpoint}/openapi.json", headers={"X-Auth-Token": ground.cloud.token}
    )
    found = [result.ok() for result in loaded.get_all_operations()]
    return {operation.label: operation for operation in found}


def test_the_served_document_is_the_tables(operations: dict[str, APIOperation]) -> None:
    assert set(operations) == set(_LABELS)


@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE], ids=lambda mode: mode.value)
@pytest.mark.parametrize("label", [label for label in _LABELS if not _LEFT_ALONE.search(label)])
def test_no_request_breaks_the_service(
    operations: dict[str, APIOperation], ground: Ground, label: str, mode: GenerationMode
) -> None:
    operation = operations[label]

    @settings(
        max_examples=25,
        deadline=None,
        derandomize=True,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy(generation_mode=mode))
    def send(case: Any) -> None:
        ground.calls += 1
        if ground.calls % 2 and case.path_parameters:
            there = ground.ids(*case.path_parameters)
            case.path_parameters = {key: there.get(key, value) for key, value in case.path_parameters.items()}
        version = _VERSIONS[ground.calls // 2 % len(_VERSIONS)]
        answer = case.call(headers={"X-Auth-Token": ground.cloud.token, "OpenStack-API-Version": f"volume {version}"})
        ground.statuses[answer.status_code] += 1
        # Not the case's own words: they would show the token.
        assert answer.status_code < 500, f"{label} at {version}: {answer.status_code} {answer.text}\n{case.body!r}"

    send()


def test_the_service_is_still_well(ground: Ground) -> None:
    assert set(ground.statuses) >= {200, 202, 400, 404}, ground.statuses
    volume = ground.cloud.create(1, volume_type="__DEFAULT__")
    assert ground.cloud.show("volumes", volume["id"], NEWEST)["status"] == "available"


def test_no_token_was_written_down(ground: Ground) -> None:
    token = ground.cloud.token
    for path in (ground.cloud.service.state_dir / "logs").rglob("*"):
        if path.is_file():
            assert token not in path.read_text(errors="replace"), path
