"""QoS specs over HTTP, and the volume types that have them."""

from __future__ import annotations

from typing import Any

import pytest


def _fault(answer: tuple[int, Any]) -> tuple[int, str, str]:
    status, body = answer
    ((key, inner),) = body.items()
    assert inner["code"] == status
    return status, key, inner["message"]


async def _make(api: Any, name: str, **more: str | None) -> str:
    status, body = await api.post("/qos-specs", {"qos_specs": {"name": name, **more}})
    assert status == 200, body
    return str(body["qos_specs"]["id"])


async def _names(api: Any, query: str = "") -> list[str]:
    status, body = await api.get(f"/qos-specs{query}")
    assert status == 200, body
    return [each["name"] for each in body["qos_specs"]]


async def test_make_and_show(api: Any) -> None:
    given = {"name": " slow ", "consumer": "both", "total_iops_sec": "100", "odd key!": None}
    status, body = await api.post("/qos-specs", {"qos_specs": given})
    made = body["qos_specs"]
    assert status == 200
    assert made == {
        "id": made["id"],
        "name": "slow",
        "consumer": "both",
        "specs": {"total_iops_sec": "100", "odd key!": ""},
    }
    assert body["links"] == [
        {"rel": "self", "href": f"http://api.test/v3/{'a' * 32}/qos-specs/{made['id']}"},
        {"rel": "bookmark", "href": f"http://api.test/{'a' * 32}/qos-specs/{made['id']}"},
    ]
    assert await api.get(f"/qos-specs/{made['id']}") == (200, body)
    assert await api.get("/qos-specs") == (200, {"qos_specs": [made]})
    assert _fault(await api.get("/qos-specs/nope")) == (404, "itemNotFound", "No such QoS spec nope.")


async def test_the_back_end_enforces_what_names_nobody(api: Any) -> None:
    made = await _make(api, "plain")
    assert (await api.get(f"/qos-specs/{made}"))[1]["qos_specs"]["consumer"] == "back-end"


async def test_a_name_is_taken_once(api: Any) -> None:
    await _make(api, "gold")
    answer = await api.post("/qos-specs", {"qos_specs": {"name": "gold"}})
    assert _fault(answer) == (409, "conflictingRequest", "QoS Specs gold already exists.")


@pytest.mark.parametrize(
    "given",
    [
        None,
        [],
        {},
        {"name": ""},
        {"name": "  "},
        {"name": "x" * 256},
        {"name": 7},
        {"name": "x", "consumer": "nobody"},
        {"name": "x", "consumer": ""},
        {"name": "x", "consumer": 7},
        {"name": "x", "iops": 100},
        {"name": "x", "iops": "9" * 256},
        {"name": "x", "k" * 256: "1"},
        {"name": "x", "": "1"},
        {"name": "x", "a\nb": "1"},
    ],
)
async def test_specs_that_can_not_be(api: Any, given: Any) -> None:
    assert _fault(await api.post("/qos-specs", {"qos_specs": given}))[:2] == (400, "badRequest")
    assert await _names(api) == []


async def test_change(api: Any) -> None:
    made = await _make(api, "a", total_iops_sec="100", gone="1")
    path, changes = f"/qos-specs/{made}", {"total_iops_sec": "200", "consumer": "front-end", "new": None}
    assert await api.put(path, {"qos_specs": changes}) == (200, {"qos_specs": changes})
    shown = (await api.get(path))[1]["qos_specs"]
    assert shown["consumer"] == "front-end"
    assert shown["specs"] == {"total_iops_sec": "200", "gone": "1", "new": ""}
    assert (await api.put(path, {"qos_specs": {}}))[0] == 200
    assert (await api.get(path))[1]["qos_specs"] == shown
    for wrong in ({"a!": "1"}, {"a": 1}, {"a": "x" * 256}, {"consumer": "nobody"}, None):
        assert _fault(await api.put(path, {"qos_specs": wrong}))[:2] == (400, "badRequest")
    assert _fault(await api.put("/qos-specs/nope", {"qos_specs": {}}))[0] == 404


async def test_remove_keys(api: Any) -> None:
    made = await _make(api, "a", one="1", two="2", three="3")
    path = f"/qos-specs/{made}/delete_keys"
    assert await api.put(path, {"keys": ["one", "two"]}) == (202, None)
    missing = f"QoS spec {made} has no spec with key one."
    assert _fault(await api.put(path, {"keys": ["three", "one"]})) == (404, "itemNotFound", missing)
    assert (await api.get(f"/qos-specs/{made}"))[1]["qos_specs"]["specs"] == {"three": "3"}
    for wrong in ([""], ["a", "a"], "three", [7], None):
        assert (await api.put(path, {"keys": wrong}))[0] == 400
    assert (await api.put("/qos-specs/nope/delete_keys", {"keys": []}))[0] == 404


async def test_types_that_have_them(api: Any) -> None:
    gold, silver = await _make(api, "gold"), await _make(api, "silver")
    one, two = await api.make_type("one"), await api.make_type("two")

    async def of(type_id: str) -> Any:
        return (await api.get(f"/types/{type_id}"))[1]["volume_type"]["qos_specs_id"]

    for type_id in (two, one, one):
        assert await api.get(f"/qos-specs/{gold}/associate?vol_type_id={type_id}") == (202, None)
    assert [await of(one), await of(two)] == [gold, gold]
    assert await api.get(f"/qos-specs/{gold}/associations") == (
        200,
        {
            "qos_associations": [
                {"association_type": "volume_type", "name": "one", "id": one},
                {"association_type": "volume_type", "name": "two", "id": two},
            ]
        },
    )
    assert _fault(await api.get(f"/qos-specs/{silver}/associate?vol_type_id={one}")) == (
        400,
        "badRequest",
        f"Invalid volume type: Type {one} is already associated with another qos specs: {gold}",
    )
    assert await api.get(f"/qos-specs/{silver}/disassociate?vol_type_id={one}") == (202, None)
    assert await of(one) == gold
    assert await api.get(f"/qos-specs/{gold}/disassociate?vol_type_id={one}") == (202, None)
    assert [await of(one), await of(two)] == [None, gold]
    assert await api.get(f"/qos-specs/{gold}/disassociate_all") == (202, None)
    assert (await api.get(f"/qos-specs/{gold}/associations"))[1] == {"qos_associations": []}


async def test_associations_that_can_not_be(api: Any) -> None:
    made, kind = await _make(api, "gold"), await api.make_type("one")
    for verb in ("associate", "disassociate"):
        for query in ("", "?vol_type_id="):
            assert _fault(await api.get(f"/qos-specs/{made}/{verb}{query}")) == (
                400,
                "badRequest",
                "Volume Type id must not be None.",
            )
        answer = await api.get(f"/qos-specs/nope/{verb}?vol_type_id={kind}")
        assert _fault(answer) == (404, "itemNotFound", "No such QoS spec nope.")
        answer = await api.get(f"/qos-specs/{made}/{verb}?vol_type_id=nope")
        assert _fault(answer) == (404, "itemNotFound", "Volume type nope could not be found.")
    assert (await api.get("/qos-specs/nope/disassociate_all"))[0] == 404
    assert (await api.get("/qos-specs/nope/associations"))[0] == 404


async def test_delete(api: Any) -> None:
    free, used = await _make(api, "free"), await _make(api, "used")
    kind = await api.make_type("one")
    await api.get(f"/qos-specs/{used}/associate?vol_type_id={kind}")
    assert await api.delete(f"/qos-specs/{free}") == (202, None)
    assert _fault(await api.delete(f"/qos-specs/{free}"))[0] == 404
    assert _fault(await api.delete(f"/qos-specs/{used}")) == (400, "badRequest", "Qos specs still in use.")
    assert _fault(await api.delete(f"/qos-specs/{used}?force=perhaps"))[2] == (
        "Value 'perhaps' for 'force' is not a boolean."
    )
    assert await api.delete(f"/qos-specs/{used}?force=True") == (202, None)
    assert (await api.get(f"/types/{kind}"))[1]["volume_type"]["qos_specs_id"] is None
    assert await _names(api) == []


async def test_lists(api: Any) -> None:
    for name, consumer in (("a", "both"), ("b", "back-end"), ("c", "both")):
        await _make(api, name, consumer=consumer)
    assert await _names(api) == ["c", "b", "a"]
    assert await _names(api, "?consumer=both") == ["c", "a"]
    assert await _names(api, "?name=b") == ["b"]
    assert await _names(api, "?colour=red") == []
    _, body = await api.get("/qos-specs?limit=2&sort=name:asc")
    (link,) = body["qos_specs_links"]
    assert link["href"].startswith(f"http://api.test/v3/{'a' * 32}/qos-specs?limit=2&sort=name%3Aasc&marker=")
    assert await _names(api, link["href"].partition("/qos-specs")[2]) == ["c"]
    assert (await api.get("/qos-specs?marker=nope"))[0] == 404
    assert (await api.get("/qos-specs?sort=specs"))[0] == 400


async def test_only_administrators(api: Any) -> None:
    made = await _make(api, "gold")
    path, rule = f"/qos-specs/{made}", "volume_extension:qos_specs_manage"
    for method, url, body, name in (
        ("GET", "/qos-specs", None, "get_all"),
        ("POST", "/qos-specs", {"qos_specs": {"name": "x"}}, "create"),
        ("GET", path, None, "get"),
        ("PUT", path, {"qos_specs": {}}, "update"),
        ("DELETE", path, None, "delete"),
        ("PUT", f"{path}/delete_keys", {"keys": []}, "delete"),
        ("GET", f"{path}/associations", None, "get_all"),
        ("GET", f"{path}/associate?vol_type_id=x", None, "update"),
        ("GET", f"{path}/disassociate?vol_type_id=x", None, "update"),
        ("GET", f"{path}/disassociate_all", None, "update"),
    ):
        answer = await api.call(method, url, body, who="member")
        assert _fault(answer) == (403, "forbidden", f"Policy doesn't allow {rule}:{name} to be performed."), url
