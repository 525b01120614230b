"""Telling Nova that a volume has grown: what is sent, and what every answer comes to."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest
from pydantic import SecretStr

from actors.cloud.compute_events import ComputeEvents
from actors.cloud.service_login import endpoint_of
from cluster.settings import IdentityMode, IdentitySettings

VOLUME, SERVER, OTHER = "v-1", "s-1", "s-2"
NOVA = "http://nova/v2.1"
CATALOG = [
    {"type": "volumev3", "endpoints": [{"interface": "public", "region": "east", "url": "http://cinder/v3"}]},
    {
        "type": "compute",
        "endpoints": [
            {"interface": "internal", "region": "east", "url": "http://nova-internal/v2.1"},
            {"interface": "public", "region": "away", "url": "http://nova-away/v2.1"},
            {"interface": "public", "region": "east", "url": f"{NOVA}/"},
        ],
    },
]


class Cloud:
    """Keystone and Nova. Tokens are handed out one after the other; those in `forgotten` are not known any more."""

    def __init__(self, nova: httpx.Response | Exception, catalog: Any = CATALOG) -> None:
        self.nova, self.catalog = nova, catalog
        self.logins = 0
        self.forgotten: set[int] = set()
        self.login_status = 201
        self.events: list[httpx.Request] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        if request.url.path == "/v3/auth/tokens":
            self.logins += 1
            user = json.loads(request.content)["auth"]["identity"]["password"]["user"]
            assert (user["name"], user["password"]) == ("cinder", "secret")
            return httpx.Response(self.login_status, headers={"X-Subject-Token": f"token-{self.logins}"}, json={})
        number = int(request.headers["x-auth-token"].removeprefix("token-"))
        if number in self.forgotten:
            return httpx.Response(401)
        if request.url.path == "/v3/auth/catalog":
            return httpx.Response(200, json={"catalog": self.catalog})
        assert str(request.url) == f"{NOVA}/os-server-external-events"
        self.events.append(request)
        if isinstance(self.nova, Exception):
            raise self.nova
        return self.nova


def _events(cloud: Cloud) -> ComputeEvents:
    identity = IdentitySettings(
        mode=IdentityMode.KEYSTONE, keystone_url="http://keystone:5000", keystone_password=SecretStr("secret")
    )
    return ComputeEvents(identity, "east", httpx.MockTransport(cloud))


def _codes(*codes: int) -> httpx.Response:
    return httpx.Response(207, json={"events": [{"name": "volume-extended", "code": code} for code in codes]})


async def test_what_nova_is_told() -> None:
    cloud = Cloud(_codes(200, 200))
    events = _events(cloud)
    assert await events.volume_extended(VOLUME, [SERVER, OTHER], "req-1") is True
    (request,) = cloud.events
    assert request.headers["openstack-api-version"] == "compute 2.51"
    assert request.headers["x-openstack-nova-api-version"] == "2.51"
    assert request.headers["x-openstack-request-id"] == "req-1"
    assert json.loads(request.content) == {
        "events": [
            {"name": "volume-extended", "server_uuid": SERVER, "tag": VOLUME},
            {"name": "volume-extended", "server_uuid": OTHER, "tag": VOLUME},
        ]
    }
    await events.volume_extended(VOLUME, [SERVER], "req-2")
    assert cloud.logins == 1  # the token is kept


async def test_a_token_that_keystone_forgot_is_renewed_once() -> None:
    cloud = Cloud(_codes(200))
    cloud.forgotten = {1}
    assert await _events(cloud).volume_extended(VOLUME, [SERVER], "req-1") is True
    assert cloud.logins == 2
    cloud.forgotten = {1, 2, 3, 4}
    assert await _events(cloud).volume_extended(VOLUME, [SERVER], "req-1") is False


@pytest.mark.parametrize(
    ("nova", "told"),
    [
        (_codes(200, 404), True),
        (_codes(422), True),
        (_codes(200, 400), False),
        (httpx.Response(404), True),
        (httpx.Response(403), False),
        (httpx.Response(200, json={"no": "events"}), False),
        (httpx.Response(200, json={"events": ["what"]}), False),
        (httpx.Response(200, text="no json"), False),
        (httpx.ConnectError("refused"), False),
    ],
)
async def test_what_an_answer_comes_to(nova: httpx.Response | Exception, told: bool) -> None:
    assert await _events(Cloud(nova)).volume_extended(VOLUME, [SERVER, OTHER], "req-1") is told


async def test_without_nova_and_without_keystone() -> None:
    cloud = Cloud(_codes(200), CATALOG[:1])
    assert await _events(cloud).volume_extended(VOLUME, [SERVER], "req-1") is True
    assert cloud.events == []
    wrong = {"interface": "public", "region": "east", "url": "http://[no address"}
    cloud.catalog = [{"type": "compute", "endpoints": [wrong]}]
    assert await _events(cloud).volume_extended(VOLUME, [SERVER], "req-1") is False
    cloud.login_status = 401
    assert await _events(cloud).volume_extended(VOLUME, [SERVER], "req-1") is False


def test_the_endpoint_of_a_catalog() -> None:
    answer = {"catalog": CATALOG}
    assert endpoint_of(answer, "compute", "east") == NOVA
    assert endpoint_of(answer, "compute", "nowhere") in (NOVA, "http://nova-away/v2.1")
    assert endpoint_of(answer, "image", "east") is None
    for wrong in (None, {}, {"catalog": [{"type": "compute"}]}):
        with pytest.raises(ValueError, match="catalog"):
            endpoint_of(wrong, "compute", "east")
