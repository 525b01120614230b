"""The metadata of a volume, its ETag, and the metadata of its image."""

from __future__ import annotations

import asyncio
import hashlib
import json

import pytest

from cluster.volumes.records import Volume
from tests.unit.volumes.bench import ABSENT, Bench, message


async def test_adding_replacing_removing(bench: Bench) -> None:
    volume = await bench.volume(user_metadata={"a": "1"})
    path = f"/volumes/{volume}/metadata"
    added = await bench.call("POST", path, {"metadata": {"b": "2"}})
    assert (added.status_code, added.json()) == (200, {"metadata": {"a": "1", "b": "2"}})
    one = await bench.call("PUT", f"{path}/a", {"meta": {"a": "3"}})
    assert (one.status_code, one.json()) == (200, {"meta": {"a": "3"}})
    assert await bench.get(f"{path}/a") == {"meta": {"a": "3"}}
    all_of_it = await bench.call("PUT", path, {"metadata": {"c": "4"}})
    assert all_of_it.json() == {"metadata": {"c": "4"}} == await bench.get(path)
    gone = await bench.call("DELETE", f"{path}/c")
    assert (gone.status_code, gone.content) == (200, b"")
    assert await bench.get(path) == {"metadata": {}}


async def test_refusals(bench: Bench) -> None:
    volume = await bench.volume()
    path = f"/volumes/{volume}/metadata"
    for method, key in (("GET", "a"), ("DELETE", "a")):
        answer = await bench.call(method, f"{path}/{key}")
        assert (answer.status_code, message(answer)) == (404, f"Volume {volume} has no metadata with key a.")
    assert message(await bench.call("PUT", f"{path}/a", {"meta": {"b": "1"}})) == "Request body and URI mismatch"
    for body in ({"meta": {}}, {"meta": {"a": "1", "b": "2"}}, {"metadata": {"a": "1"}}, {"meta": {"a": None}}):
        assert (await bench.call("PUT", f"{path}/a", body)).status_code == 400
    for body in ({"metadata": {"a": 1}}, {"metadata": {"": "x"}}, {"metadata": {"a": "x" * 256}}, {}):
        assert (await bench.call("POST", path, body)).status_code == 400
    assert (await bench.call("GET", f"/volumes/{ABSENT}/metadata")).status_code == 404
    assert (await bench.call("POST", path, {"metadata": {"a": "1"}}, by="reader")).status_code == 403


@pytest.mark.parametrize("status", ["maintenance", "uploading"])
async def test_states_in_which_it_stands_still(bench: Bench, status: str) -> None:
    volume = await bench.volume(status=status, user_metadata={"a": "1"})
    answer = await bench.call("POST", f"/volumes/{volume}/metadata", {"metadata": {}})
    expected = f"Invalid volume: Updating volume metadata is not allowed for volumes in {status} status."
    assert (answer.status_code, message(answer)) == (400, expected)
    assert (await bench.call("DELETE", f"/volumes/{volume}/metadata/a")).status_code == 400


async def test_the_etag(bench: Bench) -> None:
    volume = await bench.volume(user_metadata={"a": "ü", "b": "2"})
    path = f"/volumes/{volume}/metadata"
    assert "etag" not in (await bench.call("GET", path, at=14)).headers
    answer = await bench.call("GET", path, at=15)
    assert answer.headers["content-type"].startswith("text/html")
    assert json.loads(answer.content) == {"metadata": {"a": "ü", "b": "2"}}
    tag = answer.headers["etag"]
    assert tag == hashlib.md5(answer.content, usedforsecurity=False).hexdigest()
    body = {"metadata": {"a": "1"}}
    wrong = await bench.call("PUT", path, body, at=15, if_match='"other"')
    assert (wrong.status_code, wrong.content) == (412, b"")
    assert (await bench.call("PUT", f"{path}/a", {"meta": {"a": "1"}}, at=15, if_match="other")).status_code == 412
    assert (await bench.call("PUT", path, body, at=15, if_match=f'W/"{tag}"')).status_code == 412
    assert await bench.get(path) == {"metadata": {"a": "ü", "b": "2"}}
    assert (await bench.call("PUT", path, body, at=15, if_match=f'"other", "{tag}"')).status_code == 200
    assert (await bench.call("PUT", path, body, at=15, if_match=tag)).status_code == 412
    assert (await bench.call("PUT", path, body, at=15, if_match="*")).status_code == 200
    assert (await bench.call("PUT", path, body, at=14, if_match='"other"')).status_code == 200
    assert (await bench.call("POST", path, body, at=15, if_match='"other"')).status_code == 200


async def test_only_one_of_many_with_the_same_tag_wins(bench: Bench) -> None:
    volume = await bench.volume()
    path = f"/volumes/{volume}/metadata"
    tag = (await bench.call("GET", path, at=15)).headers["etag"]
    answers = await asyncio.gather(
        *(bench.call("PUT", path, {"metadata": {"n": str(n)}}, at=15, if_match=f'"{tag}"') for n in range(8))
    )
    assert sorted(answer.status_code for answer in answers) == [200] + [412] * 7


async def test_image_metadata(bench: Bench) -> None:
    volume = await bench.volume(user_metadata={"mine": "1"})
    assert (await bench.act(volume, "os-show_image_metadata", None)).json() == {"metadata": {}}
    added = await bench.act(volume, "os-set_image_metadata", {"metadata": {"os": "x", "long": "y" * 65535}})
    assert (added.status_code, added.json()["metadata"]["os"]) == (200, "x")
    shown = (await bench.get(f"/volumes/{volume}"))["volume"]
    assert set(shown["volume_image_metadata"]) == {"os", "long"}
    assert shown["metadata"] == {"mine": "1"}
    gone = await bench.act(volume, "os-unset_image_metadata", {"key": "os"})
    assert (gone.status_code, gone.content) == (200, b"")
    answer = await bench.act(volume, "os-unset_image_metadata", {"key": "os"})
    expected = f"Glance metadata for volume/snapshot {volume} cannot be found."
    assert (answer.status_code, message(answer)) == (404, expected)
    await bench.act(volume, "os-unset_image_metadata", {"key": "long"})
    assert "volume_image_metadata" not in (await bench.get(f"/volumes/{volume}"))["volume"]
    for value in ({"metadata": {"a": "y" * 65536}}, {"metadata": {"": "y"}}, {"metadata": {"a": 1}}, {}, None):
        assert (await bench.act(volume, "os-set_image_metadata", value)).status_code == 400
    await bench.set(Volume, volume, status="uploading")
    assert (await bench.act(volume, "os-set_image_metadata", {"metadata": {"a": "b"}})).status_code == 400
