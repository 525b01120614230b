"""Users, projects and assignments of the embedded identity, and the first administrator."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from sqlalchemy import Connection, select

from cluster.identity import intents
from cluster.identity.records import RevokedToken, User
from cluster.settings import Settings
from serve_app.identity.bootstrap import bootstrap, reset_admin_password
from serve_app.identity.clouds import cloud_of
from tests.unit.identity.conftest import V3, Cloud


async def test_users(cloud: Cloud) -> None:
    made = await cloud.call("POST", "/users", {"user": {"name": "zoe", "password": "p1", "email": "ignored"}})
    assert made.status_code == 201
    user = made.json()["user"]
    assert (user["name"], user["enabled"], user["domain_id"]) == ("zoe", True, "default")
    assert "password" not in made.text.replace("password_expires_at", "")
    assert (await cloud.call("POST", "/users", {"user": {"name": "zoe"}})).status_code == 409
    path = f"/users/{user['id']}"
    changed = await cloud.call("PATCH", path, {"user": {"name": "zoé", "description": "d"}})
    assert (changed.json()["user"]["name"], changed.json()["user"]["description"]) == ("zoé", "d")
    names = [item["name"] for item in (await cloud.call("GET", "/users")).json()["users"]]
    assert names == ["admin", "zoé"]
    assert (await cloud.call("GET", "/users?name=zoe")).json()["users"] == []
    assert (await cloud.call("DELETE", path)).status_code == 204
    for method, body in (("GET", None), ("DELETE", None), ("PATCH", {"user": {"name": "x"}})):
        assert (await cloud.call(method, path, body)).status_code == 404


@pytest.mark.parametrize(
    "user",
    [
        {},
        {"name": ""},
        {"name": " "},
        {"name": "n" * 256},
        {"name": "a\x00"},
        {"name": "a", "password": ""},
        {"name": "a", "enabled": "yes"},
        {"name": "a", "password": 5},
    ],
)
async def test_users_that_cannot_be(cloud: Cloud, user: dict[str, Any]) -> None:
    assert (await cloud.call("POST", "/users", {"user": user})).status_code == 400


async def test_projects(cloud: Cloud) -> None:
    made = await cloud.call("POST", "/projects", {"project": {"name": "p1", "domain_id": "default"}})
    assert made.status_code == 201
    project = made.json()["project"]
    assert len(project["id"]) == 32
    assert (await cloud.call("POST", "/projects", {"project": {"name": "p1"}})).status_code == 409
    assert (await cloud.call("POST", "/projects", {"project": {"name": "p2", "domain_id": "x"}})).status_code == 404
    path = f"/projects/{project['id']}"
    assert (await cloud.call("PATCH", path, {"project": {"enabled": False}})).json()["project"]["enabled"] is False
    assert [item["name"] for item in (await cloud.call("GET", "/projects?enabled=1")).json()["projects"]] == ["admin"]
    assert (await cloud.call("DELETE", path)).status_code == 204
    assert (await cloud.call("GET", path)).status_code == 404


async def test_a_member_sees_itself_only(cloud: Cloud) -> None:
    user_id = await cloud.add("mia", "member")
    for path in (f"/users/{user_id}", f"/users/{user_id}/projects", "/auth/catalog", "/roles", "/auth/projects"):
        assert (await cloud.call("GET", path, user="mia")).status_code == 200
    for method, path, body in (
        ("GET", "/users", None),
        ("GET", "/projects", None),
        ("POST", "/users", {"user": {"name": "x"}}),
        ("GET", "/role_assignments", None),
        ("DELETE", f"/users/{user_id}", None),
    ):
        answer = await cloud.call(method, path, body, user="mia")
        assert answer.status_code == 403
        assert answer.json()["error"]["title"] == "Forbidden"
    assert (await cloud.call("GET", f"/role_assignments?user.id={user_id}", user="mia")).status_code == 200
    assert (await cloud.first.get(f"{V3}/users")).status_code == 401


async def test_assignments(cloud: Cloud) -> None:
    user_id = await cloud.add("mia", "member")
    roles = {role["name"]: role["id"] for role in (await cloud.call("GET", "/roles")).json()["roles"]}
    assert set(roles) == {"admin", "member", "reader", "service"}
    shown = (await cloud.call("GET", f"/role_assignments?user.id={user_id}&include_names=true")).json()
    [item] = shown["role_assignments"]
    assert (item["role"]["name"], item["user"]["name"], item["scope"]["project"]["name"]) == ("member", "mia", "demo")
    effective = (await cloud.call("GET", f"/role_assignments?user.id={user_id}&effective")).json()["role_assignments"]
    assert {item["role"]["id"] for item in effective} == {roles["member"], roles["reader"]}
    base = f"/projects/{item['scope']['project']['id']}/users/{user_id}/roles"
    assert (await cloud.call("PUT", f"{base}/{roles['member']}")).status_code == 204
    assert (await cloud.call("HEAD", f"{base}/{roles['member']}")).status_code == 204
    assert (await cloud.call("HEAD", f"{base}/{roles['admin']}")).status_code == 404
    assert (await cloud.call("PUT", f"{base}/nope")).status_code == 404
    assert (await cloud.call("PUT", f"/projects/nope/users/{user_id}/roles/{roles['admin']}")).status_code == 404
    assert [role["name"] for role in (await cloud.call("GET", base)).json()["roles"]] == ["member"]


async def test_changing_ones_own_password(cloud: Cloud) -> None:
    user_id = await cloud.add("mia", "member")

    async def change(old: str, new: str) -> int:
        body = {"user": {"original_password": old, "password": new}}
        return (await cloud.first.post(f"{V3}/users/{user_id}/password", json=body)).status_code

    assert await change("wrong", "new-secret") == 401
    assert await change("mia-secret", "mia-secret") == 400
    assert await change("mia-secret", "new-secret") == 204
    assert (await cloud.login("mia", "mia-secret", "demo")).status_code == 401
    assert (await cloud.login("mia", "new-secret", "demo")).status_code == 201


async def test_read_only_resources_and_discovery(cloud: Cloud) -> None:
    for path, key in (("/domains", "domains"), ("/services", "services"), ("/endpoints", "endpoints")):
        items = (await cloud.call("GET", path)).json()[key]
        assert (await cloud.call("GET", f"{path}/{items[0]['id']}")).json()[key[:-1]] == items[0]
    assert (await cloud.call("GET", "/regions/RegionOne")).status_code == 200
    assert (await cloud.call("GET", "/domains/other")).status_code == 404
    assert (await cloud.first.get("/identity")).status_code == 300
    version = (await cloud.first.get(f"{V3}/")).json()["version"]
    assert (version["id"], version["links"][0]["href"]) == ("v3.14", "http://127.0.0.1:8776/identity/v3/")
    assert (await cloud.first.get("/identity/v2.0")).json()["error"]["code"] == 404


@pytest.mark.parametrize("path", ["/users/%00", "/%FF", "/auth/tokens/%00"])
async def test_paths_that_are_not_text_are_refused_in_keystones_words(cloud: Cloud, path: str) -> None:
    answer = await cloud.first.get(f"{V3}{path}")
    assert (answer.status_code, set(answer.json())) == (400, {"error"})
    assert answer.json()["error"]["title"] == "Bad Request"


async def test_a_lost_race_is_a_conflict_in_keystones_words(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    """The user is deleted between the look at it and the grant: PostgreSQL's foreign key says so."""
    user_id = await cloud.add("mia", "member")
    roles = {role["name"]: role["id"] for role in (await cloud.call("GET", "/roles")).json()["roles"]}
    project_id = (await cloud.call("GET", "/projects?name=demo")).json()["projects"][0]["id"]
    path = f"/projects/{project_id}/users/{{}}/roles/{roles['reader']}"
    monkeypatch.setattr("cluster.identity.queries.user", lambda _db, _id: {"id": "gone"})
    lost = await cloud.call("PUT", path.format("gone"))
    assert (lost.status_code, lost.json()["error"]["title"]) == (409, "Conflict")
    assert lost.json()["error"]["message"].startswith("Something that this request depends on was changed")
    monkeypatch.undo()
    assert (await cloud.call("PUT", path.format(user_id))).status_code == 204


async def test_repeating_a_grant_or_a_revocation_is_harmless(cloud: Cloud) -> None:
    user_id = await cloud.add("mia", "member")
    [item] = (await cloud.call("GET", f"/role_assignments?user.id={user_id}")).json()["role_assignments"]
    project_id = item["scope"]["project"]["id"]

    def twice(db: Connection) -> None:
        for _ in range(2):
            intents.grant(db, user_id, project_id, "reader")
            intents.revoke(db, "audit", 2e9, 1e9)

    await cloud.store.write(twice)
    held = (await cloud.call("GET", f"/role_assignments?user.id={user_id}")).json()["role_assignments"]
    assert len(held) == 2
    revoked = await cloud.store.read(lambda db: db.execute(select(RevokedToken.expires_at)).scalars().all())  # type: ignore[call-overload]
    assert revoked == [2e9]


async def test_bootstrap_again_changes_nothing(cloud: Cloud) -> None:
    again = await asyncio.gather(*[bootstrap(cloud.store, cloud.settings, cloud.outside) for _ in range(3)])
    assert again == [None, None, None]
    assert (await cloud.login("admin", cloud.credentials.password, "admin")).status_code == 201


async def test_a_lost_password(cloud: Cloud) -> None:
    assert len(cloud.credentials.password) >= 24
    assert cloud.credentials.password not in repr(cloud.credentials)
    renewed = await reset_admin_password(cloud.store, cloud.outside)
    assert (await cloud.login("admin", cloud.credentials.password, "admin")).status_code == 401
    assert (await cloud.login("admin", renewed.password, "admin")).status_code == 201
    hashes = await cloud.store.read(lambda db: db.execute(select(User.password_hash)).scalars().all())  # type: ignore[call-overload]
    assert all(kept.startswith("$argon2id$") for kept in hashes)


async def test_clouds_yaml(cloud: Cloud) -> None:
    written = cloud_of(cloud.settings, cloud.credentials.password)
    assert written["auth"]["password"] == cloud.credentials.password
    assert written["auth"]["auth_url"] == "http://127.0.0.1:8776/identity/v3"
    open_cloud = Settings(state_dir=cloud.settings.state_dir, identity={"mode": "noauth"})  # type: ignore[arg-type]
    written = cloud_of(open_cloud)
    assert (written["auth_type"], written["auth"]["endpoint"]) == ("admin_token", "http://127.0.0.1:8776/v3")
