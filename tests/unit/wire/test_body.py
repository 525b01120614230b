"""Bodies: what is refused, and in which words."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

VERSION = {"OpenStack-API-Version": "volume 3.71"}


async def refused(client: httpx.AsyncClient, thing: Any) -> str:
    answer = await client.post("/v3/things", json=thing, headers=VERSION)
    assert answer.status_code == 400, answer.text
    return str(answer.json()["badRequest"]["message"])


async def test_a_body_is_given_to_the_handler(client: httpx.AsyncClient) -> None:
    thing = {"name": " a ", "size": "7", "bootable": "True", "metadata": {"a b": ""}}
    answer = await client.post("/v3/things", json={"thing": thing}, headers=VERSION)
    given = answer.json()["body"]["thing"]
    assert (given["name"], given["size"], given["bootable"], given["metadata"]) == ("a", 7, True, {"a b": ""})


async def test_the_model_of_the_version(client: httpx.AsyncClient) -> None:
    assert (await client.post("/v3/things", json={"thing": {"size": 1}})).status_code == 200
    assert (await client.post("/v3/things", json={"thing": {"size": "1"}})).status_code == 400


@pytest.mark.parametrize(
    ("thing", "text"),
    [
        ({}, "'thing' is a required property"),
        ({"thing": {}}, "Invalid input for field/attribute thing. Value: {}. 'size' is a required property"),
        ({"thing": None}, "Invalid input for field/attribute thing. Value: None. None is not of type 'object'"),
        ([], "[] is not of type 'object'"),
        (
            {"thing": {"size": 0}},
            "Invalid input for field/attribute size. Value: 0. 0 is less than the minimum of 1",
        ),
        (
            {"thing": {"size": 2**31}},
            (
                "Invalid input for field/attribute size. Value: 2147483648. "
                "2147483648 is greater than the maximum of 2147483647"
            ),
        ),
        (
            {"thing": {"size": "x"}},
            "Invalid input for field/attribute size. Value: x. 'x' does not match '^[0-9]+$'",
        ),
        (
            {"thing": {"size": True}},
            "Invalid input for field/attribute size. Value: True. True is not of type 'integer', 'string'",
        ),
        (
            {"thing": {"size": 1, "odd": 2}},
            (
                "Invalid input for field/attribute thing. Value: {'size': 1, 'odd': 2}. "
                "Additional properties are not allowed ('odd' was unexpected)"
            ),
        ),
        (
            {"thing": {"size": 1, "name": 5}},
            "Invalid input for field/attribute name. Value: 5. 5 is not of type 'string'",
        ),
        (
            {"thing": {"size": 1, "name": "a\nb"}},
            "Invalid input for field/attribute name. Value: a\nb. 'a\\nb' contains control characters",
        ),
    ],
)
async def test_refusals(client: httpx.AsyncClient, thing: Any, text: str) -> None:
    assert await refused(client, thing) == text


@pytest.mark.parametrize(
    "change",
    [
        {"name": "n" * 256},
        {"bootable": 1},
        {"bootable": "maybe"},
        {"bootable": None},
        {"size": 1.0},
        {"size": "9" * 5000},
        {"size": "٣"},
        {"metadata": {"": "v"}},
        {"metadata": {"k" * 256: "v"}},
        {"metadata": {"k\n": "v"}},
        {"metadata": {"é": "v"}},
        {"metadata": {"k": "v" * 256}},
        {"metadata": {"k": None}},
        {"metadata": []},
        {"password": "p"},
    ],
)
async def test_values_that_do_not_fit(client: httpx.AsyncClient, change: dict[str, Any]) -> None:
    text = await refused(client, {"thing": {"size": 1, **change}})
    assert text.startswith("Invalid input for field/attribute ")
    assert len(text) < 1024


async def test_secrets_are_not_echoed(client: httpx.AsyncClient) -> None:
    for thing in ({"size": 1, "password": "hunter2"}, {"password": "hunter2"}, {"size": 1, "password": ["hunter2"]}):
        assert "hunter2" not in await refused(client, {"thing": thing})


@pytest.mark.parametrize(
    "content",
    [
        b"{",
        b"\xff",
        b'{"thing": {"size": NaN}}',
        b'{"thing": {"size": 1, "name": "\\u0000"}}',
        b'{"thing": {"size": 1, "name": "\\ud800"}}',
        b'{"thing": {"size": 1, "\\u0000": 1}}',
        b'{"thing": ' + b"[" * 5000 + b"]" * 5000 + b"}",
        b'{"thing": ' + b"[" * 500 + b"]" * 500 + b"}",
        b"",
    ],
)
async def test_malformed_bodies(client: httpx.AsyncClient, content: bytes) -> None:
    headers = {**VERSION, "Content-Type": "application/json"}
    assert (await client.post("/v3/things", content=content, headers=headers)).status_code == 400


async def test_an_escaped_backslash_is_not_a_nul(client: httpx.AsyncClient) -> None:
    content = b'{"thing": {"size": 1, "name": "\\\\u0000"}}'
    answer = await client.post("/v3/things", content=content, headers=VERSION)
    assert answer.json()["body"]["thing"]["name"] == "\\u0000"


async def test_other_content_types(client: httpx.AsyncClient) -> None:
    for kind in ("text/plain", "application/xml", "application/x-www-form-urlencoded"):
        answer = await client.post("/v3/things", content=b"{}", headers={"Content-Type": kind})
        assert answer.status_code == 415
        assert answer.json()["badMediaType"]["message"] == "Unsupported Content-Type"
    thing = b'{"thing": {"size": 1}}'
    for kind in ("application/json; charset=utf-8", "application/vnd.openstack.volume+json", "APPLICATION/JSON"):
        assert (await client.post("/v3/things", content=thing, headers={"Content-Type": kind})).status_code == 200


async def act(client: httpx.AsyncClient, content: Any, **headers: str) -> httpx.Response:
    return await client.post("/v3/things/1/action", json=content, headers=headers)


async def test_actions(client: httpx.AsyncClient) -> None:
    assert (await act(client, {"os-extend": {"new_size": 2}})).json()["body"] == {"new_size": 2}
    assert (await act(client, {"os-reserve": None})).json()["body"] is None
    assert (await act(client, {"os-reserve": {"what": "ever"}})).status_code == 200
    unknown = await act(client, {"os-dance": {}})
    assert unknown.status_code == 400
    assert unknown.json()["badRequest"]["message"].startswith("There is no such action: os-dance.")
    for content in ([], {}, {"os-reserve": None, "os-extend": {}}, "os-reserve", 1):
        assert (await act(client, content)).status_code == 400
    assert (await client.post("/v3/things/1/action")).status_code == 400
    bad = await act(client, {"os-extend": {"new_size": 0}})
    assert bad.json()["badRequest"]["message"].startswith("Invalid input for field/attribute new_size. Value: 0.")
    empty = await act(client, {"os-extend": {}})
    assert "field/attribute os-extend." in empty.json()["badRequest"]["message"]
    assert (await act(client, {"os-reset": {}})).status_code == 403
    assert (await act(client, {"revert": {}})).status_code == 404
    assert (await act(client, {"revert": {}}, **{"OpenStack-API-Version": "volume 3.40"})).status_code == 200
