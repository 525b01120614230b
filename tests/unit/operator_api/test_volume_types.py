"""Volume types over HTTP."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import pytest

from cluster.volume_types import access, intents
from cluster.volume_types.intents import ensure_default_type

DEFAULT = "__DEFAULT__"


def _fault(answer: tuple[int, Any]) -> tuple[int, str, str]:
    status, body = answer
    ((key, inner),) = body.items()
    assert inner["code"] == status
    return status, key, inner["message"]


async def _names(api: Any, query: str = "", **how: Any) -> list[str]:
    status, body = await api.get(f"/types{query}", **how)
    assert status == 200, body
    return [each["name"] for each in body["volume_types"]]


async def test_a_type_as_an_administrator_and_as_a_member_sees_it(api: Any) -> None:
    status, body = await api.post(
        "/types",
        {
            "volume_type": {
                "name": " fast ",
                "description": None,
                "extra_specs": {"volume_backend_name": "nvme", "multiattach": "<is> True", "odd": None},
            }
        },
    )
    assert status == 200
    made = body["volume_type"]
    assert made == {
        "id": made["id"],
        "name": "fast",
        "is_public": True,
        "description": None,
        "extra_specs": {"volume_backend_name": "nvme", "multiattach": "<is> True", "odd": ""},
        "qos_specs_id": None,
        "os-volume-type-access:is_public": True,
    }
    assert await api.get(f"/types/{made['id']}") == (200, {"volume_type": made})
    seen = {key: value for key, value in made.items() if key != "qos_specs_id"}
    seen["extra_specs"] = {"multiattach": "<is> True"}
    assert await api.get(f"/types/{made['id']}", who="member") == (200, {"volume_type": seen})
    del seen["os-volume-type-access:is_public"]
    assert await api.get(f"/types/{made['id']}", who="reader") == (200, {"volume_type": seen})
    assert (await api.get(f"/types/{made['id']}/extra_specs", who="member"))[1] == {
        "extra_specs": {"multiattach": "<is> True"}
    }
    assert (await api.get(f"/types/{made['id']}/extra_specs/volume_backend_name", who="member"))[0] == 404


async def test_who_may_write_types(api: Any) -> None:
    body = {"volume_type": {"name": "x"}}
    assert _fault(await api.post("/types", body, who="member")) == (
        403,
        "forbidden",
        "Policy doesn't allow volume_extension:type_create to be performed.",
    )


async def test_a_taken_name_is_a_conflict(api: Any) -> None:
    one, _two = await api.make_type("one"), await api.make_type("two")
    taken = (409, "conflictingRequest", "Volume Type two already exists.")
    assert _fault(await api.post("/types", {"volume_type": {"name": "two"}})) == taken
    assert _fault(await api.put(f"/types/{one}", {"volume_type": {"name": "two"}})) == taken


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"name": ""},
        {"name": "   "},
        {"name": "x" * 256},
        {"name": 7},
        {"name": "x", "unknown": 1},
        {"name": "x", "is_public": True},
        {"name": "x", "os-volume-type-access:is_public": "maybe"},
        {"name": "x", "extra_specs": {"a key!": "v"}},
        {"name": "x", "extra_specs": {"k": 1}},
        {"name": "x", "extra_specs": {"k": "v" * 256}},
        {"name": "x", "extra_specs": []},
    ],
)
async def test_a_type_that_can_not_be(api: Any, given: dict[str, Any]) -> None:
    assert _fault(await api.post("/types", {"volume_type": given}))[:2] == (400, "badRequest")


async def test_change(api: Any) -> None:
    made = await api.make_type("one", description="first")
    status, body = await api.put(f"/types/{made}", {"volume_type": {"name": "uno", "is_public": "false"}})
    assert status == 200
    assert body["volume_type"]["name"] == "uno"
    assert body["volume_type"]["is_public"] is False
    assert body["volume_type"]["description"] == "first"
    assert "os-volume-type-access:is_public" not in body["volume_type"]
    assert _fault(await api.put(f"/types/{made}", {"volume_type": {}}))[2] == (
        "Specify volume type name, description, is_public or a combination thereof."
    )
    assert _fault(await api.put(f"/types/{made}", {"volume_type": {"name": " "}}))[2] == (
        "Volume type name can not be empty."
    )
    assert _fault(await api.put("/types/nope", {"volume_type": {"name": "y"}}))[:2] == (404, "itemNotFound")


async def test_delete(api: Any) -> None:
    free, used = await api.make_type("free"), await api.make_type("used")
    await api.make_volume(used)
    assert await api.delete(f"/types/{free}") == (202, None)
    assert _fault(await api.get(f"/types/{free}"))[2] == f"Volume type {free} could not be found."
    assert _fault(await api.delete(f"/types/{free}"))[0] == 404
    assert _fault(await api.delete(f"/types/{used}")) == (400, "badRequest", "Target volume type is still in use.")


async def test_default_types_can_not_be_deleted(api: Any) -> None:
    _, body = await api.get("/types/default")
    first = body["volume_type"]["id"]
    refusal = (400, "badRequest", f"The volume type {first} is a default volume type and cannot be deleted.")
    assert _fault(await api.delete(f"/types/{first}")) == refusal
    own = await api.make_type("own")
    await api.put("/default-types/p", {"default_type": {"volume_type": "own"}})
    assert _fault(await api.delete(f"/types/{own}"))[0] == 400


async def test_the_configured_default_type_can_not_be_renamed(api: Any) -> None:
    _, body = await api.get("/types/default")
    first = body["volume_type"]["id"]
    assert _fault(await api.put(f"/types/{first}", {"volume_type": {"name": "other"}})) == (
        400,
        "badRequest",
        f"The volume type {first} is the default volume type (default_volume_type) and cannot be renamed.",
    )
    status, body = await api.put(f"/types/{first}", {"volume_type": {"name": DEFAULT, "description": "d"}})
    assert (status, body["volume_type"]["name"], body["volume_type"]["description"]) == (200, DEFAULT, "d")


async def test_the_default_type_is_made_once(api: Any) -> None:
    _, body = await api.get("/types/default", who="member")
    assert body["volume_type"]["name"] == DEFAULT
    assert body["volume_type"]["description"] == "Default Volume Type"
    assert "os-volume-type-access:is_public" not in body["volume_type"]
    again = await ensure_default_type(api.room.store, api.room.settings, api.room.outside)
    assert again == body["volume_type"]["id"]
    assert await _names(api) == [DEFAULT]


async def test_private_types(api: Any) -> None:
    secret = await api.make_type("secret", **{"os-volume-type-access:is_public": False})
    assert await _names(api, who="member") == [DEFAULT]
    assert await _names(api) == [DEFAULT]
    assert await _names(api, "?is_public=None") == ["secret", DEFAULT]
    assert await _names(api, "?is_public=False") == ["secret"]
    assert await _names(api, "?is_public=False", who="member") == [DEFAULT]
    assert _fault(await api.get("/types?is_public=perhaps"))[2] == "Invalid is_public filter [perhaps]"
    assert (await api.get(f"/types/{secret}", who="member"))[0] == 404

    action, project = f"/types/{secret}/action", (await api.get("/limits", who="member")) and "b" * 32
    grant = {"addProjectAccess": {"project": project}}
    assert await api.post(action, grant) == (202, None)
    assert _fault(await api.post(action, grant)) == (
        409,
        "conflictingRequest",
        f"Volume type access for {secret} / {project} combination already exists.",
    )
    assert await _names(api, who="member") == ["secret", DEFAULT]
    assert await api.get(f"/types/{secret}/os-volume-type-access") == (
        200,
        {"volume_type_access": [{"volume_type_id": secret, "project_id": project}]},
    )
    revoke = {"removeProjectAccess": {"project": project}}
    assert await api.post(action, revoke) == (202, None)
    assert _fault(await api.post(action, revoke))[:2] == (404, "itemNotFound")
    assert (await api.get(f"/types/{secret}", who="member"))[0] == 404
    assert (await api.post(action, grant, who="member"))[0] == 403


async def test_access_to_a_public_type_is_nobodys_business(api: Any) -> None:
    public = await api.make_type("public")
    assert _fault(await api.get(f"/types/{public}/os-volume-type-access")) == (
        404,
        "itemNotFound",
        "Access list not available for public volume types.",
    )
    answer = await api.post(f"/types/{public}/action", {"addProjectAccess": {"project": "p"}})
    assert _fault(answer) == (
        400,
        "badRequest",
        "Invalid volume type: Type access modification is not applicable to public volume type.",
    )
    assert (await api.post(f"/types/{public}/action", {"addProjectAccess": {"project": ""}}))[0] == 400


async def test_pages(api: Any) -> None:
    for name in ("a", "b", "c"):
        await api.make_type(name)
    assert await _names(api, "?sort=name:asc") == [DEFAULT, "a", "b", "c"]
    status, body = await api.get("/types?limit=2&sort=name:asc")
    (link,) = body["volume_type_links"]
    assert status == 200
    assert link["rel"] == "next"
    assert link["href"].startswith(f"http://api.test/v3/{'a' * 32}/types?limit=2&sort=name%3Aasc&marker=")
    rest = link["href"].partition("/types")[2]
    assert await _names(api, rest) == ["b", "c"]
    assert await _names(api, "?limit=0") == []
    assert (await api.get("/types?marker=nope"))[0] == 404
    assert (await api.get("/types?sort=extra_specs"))[0] == 400


async def test_filter_by_extra_specs(api: Any) -> None:
    await api.make_type("multi", extra_specs={"multiattach": "<is> True"})
    await api.make_type("zoned", extra_specs={"RESKEY:availability_zones": "az1,az2", "secret": "1"})
    multi = "?extra_specs={'multiattach': '<is> True'}"
    assert await _names(api, multi) == ["multi"]
    assert await _names(api, multi, who="member") == ["multi"]
    assert await _names(api, multi, who="member", minor=51) == ["zoned", "multi", DEFAULT]
    assert await _names(api, '?extra_specs={"RESKEY:availability_zones": "az2"}') == ["zoned"]
    assert await _names(api, "?extra_specs={'RESKEY:availability_zones': '%'}") == []
    assert await _names(api, "?extra_specs={'secret': '1'}") == ["zoned"]
    assert await _names(api, "?extra_specs={'secret': '1'}", who="member") == []
    assert await _names(api, """?extra_specs={'a"b\\\\': '1'}""") == []
    assert (await api.get("/types?extra_specs=nonsense"))[0] == 400
    assert (await api.get("/types?name=multi", who="member"))[0] == 400
    assert await _names(api, "?name=multi") == ["multi"]
    assert await _names(api, "?colour=red") == []


@pytest.mark.parametrize(
    "value",
    [r"{'multiattach': '\ud800'}", r"{'multiattach': '\x00'}", r"{'\udfff': 'x'}", "{'a': 0x" + "f" * 4000 + "}"],
)
@pytest.mark.parametrize("who", ["admin", "member"])
async def test_specs_that_no_database_can_hold(api: Any, value: str, who: str) -> None:
    assert _fault(await api.get(f"/types?extra_specs={quote(value)}", who=who))[:2] == (400, "badRequest")


async def test_extra_specs(api: Any) -> None:
    made = await api.make_type("t")
    path = f"/types/{made}/extra_specs"
    assert await api.get(path) == (200, {"extra_specs": {}})
    assert await api.post(path, {"extra_specs": {"a": "1", "b:c": "2"}}) == (
        200,
        {"extra_specs": {"a": "1", "b:c": "2"}},
    )
    assert await api.put(f"{path}/a", {"a": "3"}) == (200, {"a": "3"})
    assert _fault(await api.put(f"{path}/a", {"b": "3"}))[2] == "Request body and URI mismatch"
    assert (await api.put(f"{path}/a", {"a": "3", "b": "4"}))[0] == 400
    assert await api.get(f"{path}/b:c") == (200, {"b:c": "2"})
    assert await api.delete(f"{path}/a") == (202, None)
    assert _fault(await api.delete(f"{path}/a")) == (
        404,
        "itemNotFound",
        f"Volume Type {made} has no extra specs with key a.",
    )
    assert await api.get(path) == (200, {"extra_specs": {"b:c": "2"}})
    assert (await api.post(path, {"extra_specs": {"a space": "1"}}))[0] == 400
    assert (await api.post(path, {"extra_specs": {"a": "1"}}, who="member"))[0] == 403
    assert (await api.post("/types/nope/extra_specs", {"extra_specs": {}}))[0] == 404
    assert (
        _fault(await api.post(path, {"extra_specs": {"multiattach": "<is> True", "cacheable": "<is> True"}}))[2]
        == "cacheable cannot be set with multiattach."
    )


async def test_the_slash_of_a_label_needs_no_quotes(api: Any) -> None:
    made = await api.make_type("t")
    path = f"/types/{made}/extra_specs"
    assert (await api.post(path, {"extra_specs": {"label:ray.io/zone": "in(a,b)"}}))[0] == 200
    assert await api.get(f"{path}/label:ray.io/zone") == (200, {"label:ray.io/zone": "in(a,b)"})
    assert await api.get(f"{path}/label:ray.io%2Fzone") == (200, {"label:ray.io/zone": "in(a,b)"})
    assert await api.delete(f"{path}/label:ray.io/zone") == (202, None)
    assert await api.get(path) == (200, {"extra_specs": {}})


async def test_the_specs_of_a_type_in_use_stay(api: Any) -> None:
    made = await api.make_type("t", extra_specs={"a": "1"})
    await api.make_volume(made)
    path, refusal = f"/types/{made}/extra_specs", (400, "badRequest", "Volume Type is currently in use.")
    assert _fault(await api.post(path, {"extra_specs": {"b": "2"}})) == refusal
    assert _fault(await api.put(f"{path}/a", {"a": "2"})) == refusal
    assert _fault(await api.delete(f"{path}/a")) == refusal
    assert await api.get(path) == (200, {"extra_specs": {"a": "1"}})


async def test_no_type_is_encrypted(api: Any) -> None:
    made = await api.make_type("t")
    assert await api.get(f"/types/{made}/encryption") == (200, {})
    assert (await api.get("/types/nope/encryption"))[0] == 404
    assert (await api.get(f"/types/{made}/encryption", who="member"))[0] == 403
    assert (await api.post(f"/types/{made}/encryption", {"encryption": {}}))[0] == 404


async def test_who_gives_a_type_away_waits_for_who_removes_it(api: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    secret = await api.make_type("secret", **{"os-volume-type-access:is_public": False})
    held: list[str] = []
    for module in (access, intents):
        monkeypatch.setattr(module, "hold", lambda _db, name: held.append(name))
    project = {"project": "p"}
    assert (await api.post(f"/types/{secret}/action", {"addProjectAccess": project}))[0] == 202
    assert (await api.post(f"/types/{secret}/action", {"removeProjectAccess": project}))[0] == 202
    assert (await api.put("/default-types/p", {"default_type": {"volume_type": "secret"}}))[0] == 200
    assert (await api.delete("/default-types/p"))[0] == 204
    assert (await api.delete(f"/types/{secret}"))[0] == 202
    assert held == [intents.ALL_TYPES] * 4
