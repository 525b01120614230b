"""What a client sees of the order in which a request is examined."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from serve_app.wire.guard import Guard
from serve_app.wire.route import Room, Route
from serve_app.wire.tree import Tree
from tests.unit.wire.conftest import PROJECT, echo, make_room, make_site

WEBOB = {
    "message": "The resource could not be found.<br /><br />\n\n\n",
    "code": "404 Not Found",
    "title": "Not Found",
}


def message(answer: httpx.Response, key: str) -> str:
    fault = answer.json()[key]
    assert fault["code"] == answer.status_code
    return str(fault["message"])


async def test_headers_of_an_answer(client: httpx.AsyncClient) -> None:
    answer = await client.get("/v3/things/1", headers={"OpenStack-API-Version": "compute 2.1, volume 3.40"})
    assert answer.status_code == 200
    assert answer.headers["OpenStack-API-Version"] == "volume 3.40"
    assert answer.headers["Vary"] == "OpenStack-API-Version"
    assert answer.headers["Content-Type"] == "application/json"
    assert re.fullmatch("req-[0-9a-f-]{36}", answer.headers["x-compute-request-id"])
    assert answer.headers["x-compute-request-id"] == answer.headers["x-openstack-request-id"]


async def test_both_forms_of_the_url(client: httpx.AsyncClient) -> None:
    with_project = (await client.get(f"/v3/{PROJECT}/things/1")).json()
    without = (await client.get("/v3/things/1/")).json()
    assert with_project["path"] == without["path"] == {"thing_id": "1"}
    assert with_project["prefix"] == f"http://api:8776/v3/{PROJECT}"
    assert without["prefix"] == "http://api:8776/v3"
    other = await client.get(f"/v3/{'cd' * 16}/things/1")
    assert (other.status_code, message(other, "badRequest")) == (400, "Malformed request url")


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v3/nothing"),
        ("PATCH", "/v3/things/1"),
        ("PUT", "/v3/things/1"),
        ("HEAD", "/v3/things/1"),
        ("GET", f"/v3/{PROJECT}"),
        ("GET", f"/v3/{PROJECT}/"),
        ("GET", "/v3/things//metadata/a"),
        ("GET", "/elsewhere"),
        ("GET", "/v2/things"),
        ("GET", "/v3/UPPER/things"),
    ],
)
async def test_what_nothing_serves(client: httpx.AsyncClient, method: str, path: str) -> None:
    answer = await client.request(method, path)
    assert answer.status_code == 404
    if method != "HEAD":
        assert answer.json() == WEBOB


async def test_a_literal_goes_before_a_parameter(client: httpx.AsyncClient) -> None:
    assert (await client.get("/v3/things/detail")).json()["path"] == {}
    assert (await client.delete("/v3/things/detail")).status_code == 204


@pytest.mark.parametrize(
    ("header", "status", "key"),
    [
        ("volume 3.72", 406, "computeFault"),
        ("volume 2.0", 406, "computeFault"),
        ("volume 4.0", 406, "computeFault"),
        ("volume 3.99999999999999999999999999", 406, "computeFault"),
        ("volume 3", 400, "badRequest"),
        ("volume 3.01", 400, "badRequest"),
        ("volume three", 400, "badRequest"),
        ("volume 3.1 3.2", 400, "badRequest"),
        ("volume", 400, "badRequest"),
        ("compute 2.1", 404, "itemNotFound"),
    ],
)
async def test_versions_that_are_not_served(client: httpx.AsyncClient, header: str, status: int, key: str) -> None:
    answer = await client.get("/v3/things", headers={"OpenStack-API-Version": header})
    assert answer.status_code == status
    text = message(answer, key)
    if status == 406:
        assert text.endswith("Minimum is 3.0 and maximum is 3.71.")


async def test_the_version_in_force(client: httpx.AsyncClient) -> None:
    async def minor(header: str | None) -> int:
        headers = {} if header is None else {"OpenStack-API-Version": header}
        return int((await client.get("/v3/things", headers=headers)).json()["minor"])

    assert [await minor(None), await minor("volume 3.5"), await minor("volume latest")] == [0, 5, 71]
    missing = await client.get("/v3/new")
    assert message(missing, "itemNotFound") == "API version 3.0 is not supported on this method."
    assert (await client.get("/v3/new", headers={"OpenStack-API-Version": "volume 3.40"})).status_code == 200


async def test_without_a_token(client: httpx.AsyncClient) -> None:
    answer = await client.get("/v3/things", headers={"X-Auth-Token": ""})
    assert answer.status_code == 401
    assert answer.headers["WWW-Authenticate"] == 'Keystone uri="http://keystone/v3"'
    assert answer.json()["error"]["message"] == "The request you have made requires authentication."


async def test_policy(client: httpx.AsyncClient) -> None:
    refused = await client.get("/v3/services")
    assert message(refused, "forbidden") == "Policy doesn't allow volume_extension:services:index to be performed."
    reader = {"X-Auth-Token": f"reader@{PROJECT}"}
    assert (await client.get("/v3/things", headers=reader)).status_code == 200
    assert (await client.delete("/v3/things/1", headers=reader)).status_code == 403
    # The policy comes before the body: who may not create learns nothing about the schema.
    assert (await client.post("/v3/things", headers=reader, content=b"{")).status_code == 403
    assert (await client.get("/v3/services", headers={"X-Auth-Token": f"admin@{PROJECT}"})).status_code == 200


async def test_global_request_id(client: httpx.AsyncClient) -> None:
    given = "req-11111111-2222-3333-4444-555555555555"
    answer = await client.get("/v3/things", headers={"X-OpenStack-Request-ID": given})
    assert answer.json()["global"] == given
    assert answer.headers["x-openstack-request-id"] != given
    assert (await client.get("/v3/things", headers={"X-OpenStack-Request-ID": "req-1"})).json()["global"] is None


@pytest.mark.parametrize(
    ("how", "status", "key"),
    [
        ("missing", 404, "itemNotFound"),
        ("taken", 409, "conflictingRequest"),
        ("quota", 413, "overLimit"),
        ("store", 503, "serviceUnavailable"),
        ("bug", 500, "computeFault"),
        ("race", 409, "conflictingRequest"),
        ("null", 500, "computeFault"),
    ],
)
async def test_faults(client: httpx.AsyncClient, how: str, status: int, key: str) -> None:
    answer = await client.get(f"/v3/fail/{how}")
    assert answer.status_code == status
    text = message(answer, key)
    assert "42" not in answer.text
    assert "Traceback" not in answer.text
    if how == "quota":
        assert answer.headers["Retry-After"] == "0"
        assert answer.json()["overLimit"]["retryAfter"] == "0"
    if how == "missing":
        assert text == "Thing 1 could not be found."


async def test_a_failed_precondition_has_no_body(client: httpx.AsyncClient) -> None:
    answer = await client.get("/v3/fail/etag")
    assert (answer.status_code, answer.content) == (412, b"")


async def test_no_content_has_no_content_headers(client: httpx.AsyncClient) -> None:
    answer = await client.delete("/v3/things/1")
    assert answer.status_code == 204
    assert "content-length" not in answer.headers


@pytest.mark.parametrize("path", ["/v3/things/%00", "/v3/things/%FF", "/v3/%C3%28"])
async def test_paths_that_are_not_text(client: httpx.AsyncClient, path: str) -> None:
    assert (await client.get(path)).status_code == 400


@pytest.mark.parametrize("query", ["name=%00", "name=%FF", "%00=1", "name=a%C3"])
async def test_queries_that_are_not_text(client: httpx.AsyncClient, query: str) -> None:
    assert (await client.get(f"/v3/things?{query}")).status_code == 400


@pytest.mark.parametrize("query", ["name=%", "name=%zz", "a;b", "=", "&&&", "name=%C3%A9", "name"])
async def test_odd_queries_are_read(client: httpx.AsyncClient, query: str) -> None:
    assert (await client.get(f"/v3/things?{query}")).status_code == 200


async def test_the_loopback_guard(tmp_path: Path) -> None:
    async def status(room: Room, peer: str) -> int:
        transport = httpx.ASGITransport(make_site(room), client=(peer, 1))  # type: ignore[arg-type]
        async with httpx.AsyncClient(transport=transport, base_url="http://api") as client:
            return (await client.get("/healthcheck")).status_code

    near, far = make_room(tmp_path), make_room(tmp_path, listen="0.0.0.0", public_url="http://api")
    assert [await status(near, peer) for peer in ("127.0.0.1", "127.8.8.8", "::1", "::ffff:127.0.0.1")] == [200] * 4
    assert [await status(near, peer) for peer in ("192.0.2.7", "fe80::1%eth9", "testclient")] == [403] * 3
    assert await status(far, "192.0.2.7") == 200


def test_the_guard_knows_this_machines_addresses(tmp_path: Path) -> None:
    clock = [0.0]
    addresses = {"192.0.2.1"}
    guard = Guard(make_room(tmp_path).settings, lambda: frozenset(addresses), lambda: clock[0])
    assert guard.admits({"client": ("192.0.2.1", 1)})
    assert not guard.admits({"client": ("192.0.2.2", 1)})
    addresses.clear()
    clock[0] = 31
    assert not guard.admits({"client": ("192.0.2.1", 1)})
    assert guard.admits({"client": None})


async def test_versions_and_health(client: httpx.AsyncClient) -> None:
    root = await client.get("/")
    assert root.status_code == 300
    version = root.json()["versions"][0]
    assert (version["id"], version["min_version"], version["version"]) == ("v3.0", "3.0", "3.71")
    assert version["links"][1] == {"rel": "self", "href": "http://api:8776/v3/"}
    assert (await client.get("/v3/")).json() == root.json()
    assert (await client.get("/v3/", headers={"X-Auth-Token": ""})).status_code == 401
    redirect = await client.get("/v3")
    assert (redirect.status_code, redirect.headers["Location"]) == (302, "http://api:8776/v3/")
    health = await client.get("/healthcheck")
    assert (health.status_code, health.text) == (200, "OK")


def test_two_routes_for_one_path_are_refused() -> None:
    tree: Tree[Route] = Tree()
    route = Route("GET", "/a/{b}", echo, "-", "")
    tree.add("GET", "/a/{b}", route)
    with pytest.raises(ValueError, match="two routes"):
        tree.add("GET", "/a/{c}", route)


async def test_a_client_that_goes_away_is_not_answered(room: Room) -> None:
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.disconnect"}

    async def send(event: Any) -> None:
        sent.append(event)

    scope = {
        "type": "http",
        "method": "POST",
        "path": "/v3/things",
        "query_string": b"",
        "headers": [(b"x-auth-token", f"member@{PROJECT}".encode())],
        "client": ("127.0.0.1", 1),
    }
    await make_site(room)(scope, receive, send)
    assert sent == []


async def _chunks() -> AsyncIterator[bytes]:
    for _ in range(200):
        yield b" " * 1024


async def test_bodies_that_are_too_large(client: httpx.AsyncClient) -> None:
    announced = await client.post("/v3/things", content=b" " * 200_000)
    chunked = await client.post("/v3/things", content=_chunks())
    for answer in (announced, chunked):
        assert (answer.status_code, message(answer, "overLimit")) == (413, "Request is too large.")
