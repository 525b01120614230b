"""Who may end an attachment that a server of Nova uses, and Nova's own word on it."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from serve_app.identity.compute import Nova
from serve_app.wire.faults import Unavailable
from tests.unit.attachment_api.conftest import CONNECTOR, Attaching, Make
from tests.unit.volumes.bench import message

SERVER = "12345678-1234-4234-8234-123456789012"
VOLUME = "22345678-1234-4234-8234-123456789012"
CONFLICT = f"Detach volume from instance {SERVER} using the Compute API"


class Servers:
    """What Nova says: `using` is the attachment its server has."""

    def __init__(self) -> None:
        self.using: str | None = None
        self.asked: list[tuple[str, str, str]] = []

    async def __call__(self, token: str, server_id: str, volume_id: str) -> str | None:
        self.asked.append((token, server_id, volume_id))
        return self.using


async def test_without_nova_the_owner_says(bench: Attaching) -> None:
    made = await bench.attached(await bench.placed(), instance_uuid=SERVER)
    assert (await bench.at("DELETE", f"/attachments/{made['id']}")).status_code == 200
    assert bench.export.specs == {}


async def test_while_a_server_uses_it(make: Make) -> None:
    servers = Servers()
    bench = make(servers=servers)
    volume = await bench.placed()
    made = await bench.attached(volume, instance_uuid=SERVER)
    servers.using = made["id"]
    path = f"/attachments/{made['id']}"
    for by in ("member", "admin"):
        answer = await bench.at("DELETE", path, by=by)
        assert (answer.status_code, message(answer)) == (409, CONFLICT)
    assert servers.asked == [("member", SERVER, volume), ("admin", SERVER, volume)]
    for key, value in (
        ("os-detach", {"attachment_id": made["id"]}),
        ("os-detach", {}),
        ("os-terminate_connection", {"connector": CONNECTOR}),
    ):
        answer = await bench.act(volume, key, value)
        assert (answer.status_code, message(answer)) == (409, CONFLICT), key
    answer = await bench.act(volume, "os-force_detach", {}, by="admin")
    assert (answer.status_code, message(answer)) == (409, CONFLICT)
    assert list(bench.export.specs) == [made["id"]]
    assert (await bench.at("DELETE", path, by="service")).status_code == 200
    assert bench.export.specs == {}


async def test_what_no_server_uses(make: Make) -> None:
    servers = Servers()
    bench = make(servers=servers)
    reserved = await bench.reserve(await bench.placed(), instance_uuid=SERVER)
    hostless = await bench.attached(await bench.placed())
    for each in (reserved, hostless):
        assert (await bench.at("DELETE", f"/attachments/{each['id']}")).status_code == 200
    assert servers.asked == []
    for said in (None, VOLUME):
        servers.using = said
        made = await bench.attached(await bench.placed(), instance_uuid=SERVER)
        assert (await bench.at("DELETE", f"/attachments/{made['id']}")).status_code == 200
    assert len(servers.asked) == 2


async def test_nobody_chooses_among_several(make: Make) -> None:
    bench = make(servers=Servers())
    volume = await bench.placed(multiattach=True)
    for host in ("node-1", "node-2"):
        await bench.attached(volume, {"host": host})
    answer = await bench.act(volume, "os-terminate_connection", {"connector": CONNECTOR})
    assert (answer.status_code, message(answer)) == (409, "Detach volume from instance  using the Compute API")
    assert (await bench.act(volume, "os-terminate_connection", {"connector": None}, by="service")).status_code == 202


def _nova(catalog: Any, answer: httpx.Response, asked: list[httpx.Request]) -> Nova:
    def handle(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        if request.url.path == "/v3/auth/catalog":
            return httpx.Response(200, json={"catalog": catalog})
        return answer

    return Nova("http://keystone:5000", "east", httpx.MockTransport(handle))


def _endpoint(region: str, interface: str = "public") -> dict[str, str]:
    return {"interface": interface, "region": region, "url": f"http://nova-{region}-{interface}/v2.1/"}


CATALOG = [
    {"type": "volumev3", "endpoints": [_endpoint("east")]},
    {"type": "compute", "endpoints": [_endpoint("east", "internal"), _endpoint("away"), _endpoint("east")]},
]


async def test_nova_says(make: Make) -> None:
    asked: list[httpx.Request] = []
    nova = _nova(CATALOG, httpx.Response(200, json={"volumeAttachment": {"attachment_id": "a"}}), asked)
    assert await nova.attachment("token", SERVER, VOLUME) == "a"
    assert [str(request.url) for request in asked] == [
        "http://keystone:5000/v3/auth/catalog",
        f"http://nova-east-public/v2.1/servers/{SERVER}/os-volume_attachments/{VOLUME}",
    ]
    assert {request.headers["x-auth-token"] for request in asked} == {"token"}
    assert asked[1].headers["openstack-api-version"] == "compute 2.89"
    nova = _nova(CATALOG, httpx.Response(404), asked)
    assert await nova.attachment("token", SERVER, VOLUME) is None


async def test_a_cloud_without_nova() -> None:
    asked: list[httpx.Request] = []
    nova = _nova(CATALOG[:1], httpx.Response(500), asked)
    assert await nova.attachment("token", SERVER, VOLUME) is None
    assert len(asked) == 1


@pytest.mark.parametrize(
    "answer",
    [httpx.Response(503), httpx.Response(200, text="no"), httpx.Response(200, json={}), httpx.Response(401)],
)
async def test_nova_that_cannot_say(answer: httpx.Response) -> None:
    with pytest.raises(Unavailable, match="Compute service"):
        await _nova(CATALOG, answer, []).attachment("token", SERVER, VOLUME)
