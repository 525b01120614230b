"""Default types of projects over HTTP."""

from __future__ import annotations

from typing import Any

from sqlalchemy import insert

from cluster.identity.records import Project
from cluster.settings import IdentityMode, IdentitySettings

MEMBER = "b" * 32


async def test_a_project_gets_its_own_default(api: Any) -> None:
    fast = await api.make_type("fast")
    own = {"project_id": MEMBER, "volume_type_id": fast}
    path = f"/default-types/{MEMBER}"
    assert await api.put(path, {"default_type": {"volume_type": "fast"}}) == (200, {"default_type": own})
    assert await api.put(path, {"default_type": {"volume_type": fast}}) == (200, {"default_type": own})
    assert await api.get(path) == (200, {"default_type": own})
    assert await api.get("/default-types") == (200, {"default_types": [own]})
    assert (await api.get("/types/default", who="member"))[1]["volume_type"]["name"] == "fast"
    assert (await api.get("/types/default", who="stranger"))[1]["volume_type"]["name"] == "__DEFAULT__"
    assert await api.delete(path) == (204, None)
    assert await api.delete(path) == (204, None)
    assert await api.get(path) == (
        404,
        {"itemNotFound": {"code": 404, "message": f"Default type for project {MEMBER} not found."}},
    )
    assert await api.get("/default-types") == (200, {"default_types": []})


async def test_refusals(api: Any) -> None:
    status, body = await api.put("/default-types/p", {"default_type": {"volume_type": "nope"}})
    assert (status, body["badRequest"]["message"]) == (400, "Volume type with name nope could not be found.")
    assert (await api.get("/default-types", minor=61))[0] == 404
    assert (await api.get("/default-types", who="member"))[0] == 403
    assert (await api.put(f"/default-types/{MEMBER}", {"default_type": {"volume_type": "x"}}, who="member"))[0] == 403


async def test_with_embedded_identity_the_project_must_exist(api: Any) -> None:
    embedded = api.room.settings.model_copy(update={"identity": IdentitySettings(mode=IdentityMode.EMBEDDED)})
    object.__setattr__(api.room, "settings", embedded)
    status, body = await api.put("/default-types/gone", {"default_type": {"volume_type": "__DEFAULT__"}})
    assert (status, body["itemNotFound"]["message"]) == (404, "Project with id gone not found.")
    project = {"id": "here", "name": "here", "description": "", "enabled": True}
    await api.room.store.write(lambda db: db.execute(insert(Project).values(**project)))
    assert (await api.put("/default-types/here", {"default_type": {"volume_type": "__DEFAULT__"}}))[0] == 200
