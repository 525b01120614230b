"""Tokens of the embedded identity: getting one, what it opens, and when it stops to."""

from __future__ import annotations

import base64
import hmac
import threading
from pathlib import Path

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve_app.identity.embedded import REMEMBERED_SECONDS
from serve_app.identity.signing_key import SigningKeyError, ensure_signing_key
from serve_app.identity.tokens import Claims, TokenSigner
from tests.unit.identity.conftest import V3, Cloud

VOLUMES = "/v3/volumes"


async def statuses(cloud: Cloud, token: str) -> list[int]:
    """What each replica answers to a read with the token."""
    headers = {"X-Auth-Token": token}
    return [(await client.get(VOLUMES, headers=headers)).status_code for client in (cloud.first, cloud.second)]


async def test_a_login(cloud: Cloud) -> None:
    answer = await cloud.login("admin", cloud.credentials.password, "admin")
    assert answer.status_code == 201
    token = answer.json()["token"]
    assert token["methods"] == ["password"]
    assert token["user"]["name"] == "admin"
    assert token["project"]["name"] == "admin"
    assert {role["name"] for role in token["roles"]} == {"admin", "member", "reader"}
    assert (token["issued_at"], token["expires_at"]) == ("2027-01-15T08:00:00.000000Z", "2027-01-15T09:00:00.000000Z")
    catalog = {service["type"]: service for service in token["catalog"]}
    urls = {kind: service["endpoints"][0]["url"] for kind, service in catalog.items()}
    assert urls == {
        "block-storage": "http://127.0.0.1:8776/v3",
        "volumev3": f"http://127.0.0.1:8776/v3/{token['project']['id']}",
        "identity": "http://127.0.0.1:8776/identity/v3",
    }
    assert await statuses(cloud, answer.headers["X-Subject-Token"]) == [200, 200]


@pytest.mark.parametrize(
    ("user", "password", "project"),
    [("admin", "wrong", "admin"), ("admin", "", None), ("nobody", "x", None), ("ADMIN", "right", "admin")],
)
async def test_refused_logins(cloud: Cloud, user: str, password: str, project: str | None) -> None:
    given = cloud.credentials.password if password == "right" else password
    answer = await cloud.login(user, given, project)
    assert answer.status_code == 401
    message = "The request you have made requires authentication."
    assert answer.json() == {"error": {"code": 401, "message": message, "title": "Unauthorized"}}


async def test_scopes(cloud: Cloud) -> None:
    user_id = await cloud.add("mia", "member")
    password = "mia-secret"
    assert (await cloud.login("mia", password, "admin")).status_code == 401
    assert (await cloud.login("mia", password, "nowhere")).status_code == 401
    assert (await cloud.login("mia", password, domain={"id": "default"})).status_code == 401
    alone = await cloud.login("mia", password)
    assert "project" not in alone.json()["token"]
    token = alone.headers["X-Subject-Token"]
    # A token without a project opens nothing that asks for a role.
    assert (await cloud.first.get(VOLUMES, headers={"X-Auth-Token": token})).status_code == 403
    mine = await cloud.first.get(f"{V3}/auth/projects", headers={"X-Auth-Token": token})
    project_id = mine.json()["projects"][0]["id"]
    identity = {"methods": ["token"], "token": {"id": token}}
    body = {"auth": {"identity": identity, "scope": {"project": {"id": project_id}}}}
    cloud.clock.now += 600
    again = await cloud.first.post(f"{V3}/auth/tokens", json=body)
    assert again.status_code == 201
    assert again.json()["token"]["expires_at"] == alone.json()["token"]["expires_at"]
    assert again.json()["token"]["user"]["id"] == user_id
    assert await statuses(cloud, again.headers["X-Subject-Token"]) == [200, 200]


async def test_malformed_logins(cloud: Cloud) -> None:
    bodies = ({}, {"auth": {}}, {"auth": {"identity": {"methods": "password"}}}, [], {"auth": {"identity": None}})
    for body in bodies:
        answer = await cloud.first.post(f"{V3}/auth/tokens", json=body)
        assert answer.status_code == 400
        assert answer.json()["error"]["title"] == "Bad Request"
    methods: tuple[list[str], ...] = ([], ["totp"], ["password", "token"], ["password"])
    for wrong in methods:
        body = {"auth": {"identity": {"methods": wrong}}}
        assert (await cloud.first.post(f"{V3}/auth/tokens", json=body)).status_code == 401


async def test_an_expired_token(cloud: Cloud) -> None:
    token = await cloud.token()
    assert await statuses(cloud, token) == [200, 200]
    cloud.clock.now += cloud.settings.identity.token_seconds
    assert await statuses(cloud, token) == [401, 401]


async def test_a_revoked_token_is_refused_by_every_replica(cloud: Cloud) -> None:
    await cloud.add("mia", "member")
    token = await cloud.token("mia")
    assert await statuses(cloud, token) == [200, 200]
    headers = {"X-Auth-Token": token, "X-Subject-Token": token}
    assert (await cloud.first.get(f"{V3}/auth/tokens", headers=headers)).status_code == 200
    assert (await cloud.first.delete(f"{V3}/auth/tokens", headers=headers)).status_code == 204
    assert (await statuses(cloud, token))[0] == 401
    cloud.clock.now += REMEMBERED_SECONDS
    assert await statuses(cloud, token) == [401, 401]
    assert (await cloud.first.delete(f"{V3}/auth/tokens", headers=headers)).status_code == 401


async def test_changes_end_tokens(cloud: Cloud) -> None:
    changes = {
        "disabled": ("PATCH", {"user": {"enabled": False}}),
        "password": ("PATCH", {"user": {"password": "another-one"}}),
        "deleted": ("DELETE", None),
    }
    for name, (method, body) in changes.items():
        user_id = await cloud.add(name, "reader")
        token = await cloud.token(name)
        assert await statuses(cloud, token) == [200, 200]
        assert (await cloud.call(method, f"/users/{user_id}", body)).status_code in (200, 204)
        cloud.clock.now += REMEMBERED_SECONDS
        assert await statuses(cloud, token) == [401, 401], name


async def test_a_role_that_is_taken_away(cloud: Cloud) -> None:
    user_id = await cloud.add("mia", "member", "reader")
    token = await cloud.token("mia")
    headers = {"X-Auth-Token": token}
    bad = {"volume": {"size": 0}}
    assert (await cloud.first.post(VOLUMES, json=bad, headers=headers)).status_code == 400
    assigned = (await cloud.call("GET", f"/role_assignments?user.id={user_id}&include_names=1")).json()
    for item in assigned["role_assignments"]:
        path = item["links"]["assignment"].removeprefix("http://127.0.0.1:8776/identity/v3")
        if item["role"]["name"] == "member":
            assert (await cloud.call("DELETE", path)).status_code == 204
            assert (await cloud.call("DELETE", path)).status_code == 404
    assert (await cloud.first.post(VOLUMES, json=bad, headers=headers)).status_code == 403
    assert (await cloud.first.get(VOLUMES, headers=headers)).status_code == 200


async def test_tokens_that_were_tampered_with(cloud: Cloud) -> None:
    token = await cloud.token()
    head, body, signature = token.split(".")
    claims = orjson.loads(base64.urlsafe_b64decode(body + "=="))
    longer = base64.urlsafe_b64encode(orjson.dumps({**claims, "exp": claims["exp"] + 9999})).decode().rstrip("=")
    unsigned = base64.urlsafe_b64encode(b'{"alg":"none","typ":"JWT"}').decode().rstrip("=")
    other = TokenSigner(b"k" * 64).sign(Claims(claims["sub"], claims["prj"], 0, ("password",), ("a",), 0, 2**33))
    for forged in (
        f"{head}.{longer}.{signature}",
        f"{unsigned}.{body}.",
        token[:-4],
        other,
        "x",
        "a.b.c",
        "é",
        "x" * 9000,
    ):
        headers = {b"X-Auth-Token": forged.encode()}
        assert (await cloud.first.get(VOLUMES, headers=headers)).status_code == 401


def encoded(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


HEADERS: tuple[bytes, ...] = (
    b'{"alg":"HS512","crit":1}',
    b'{"alg":"HS512","crit":["b64"],"b64":false}',
    b'{"alg":"HS512","kid":1}',
    b'{"alg":"HS512","typ":"JWT","zip":"DEF"}',
    b'{"alg":"none"}',
    b'{"alg":null}',
    b'{"alg":["HS512"]}',
    b'{"alg":{"HS512":1}}',
    b'{"alg":"dir","enc":"A256GCM"}',
    b'{"alg":"PBES2-HS512+A256KW","p2c":2147483647}',
    b"{}",
    b"[]",
    b"1",
    b"null",
    b'"HS512"',
    b"\xff\xfe",
    b"[" * 2500,
    b'{"a":' * 500,
)


@pytest.mark.parametrize("head", HEADERS)
@pytest.mark.parametrize("rest", [".e30.eA", "", ".", "..", ".e30.", ".e30.eA.eA.eA", "...."])
def test_tokens_with_other_headers(head: bytes, rest: str) -> None:
    assert SIGNER.read(encoded(head) + rest, 0) is None


async def test_a_header_of_another_kind_is_401_not_500(cloud: Cloud) -> None:
    for head in HEADERS:
        forged = f"{encoded(head)}.e30.eA"
        answer = await cloud.first.get(VOLUMES, headers={"X-Auth-Token": forged})
        assert answer.status_code == 401
    body = {"auth": {"identity": {"methods": ["token"], "token": {"id": f"{encoded(HEADERS[0])}.e30.eA"}}}}
    assert (await cloud.first.post(f"{V3}/auth/tokens", json=body)).status_code == 401


SIGNER = TokenSigner(b"k" * 64)
HEAD = SIGNER.sign(Claims("u", None, 0, (), ("a",), 0, 1)).partition(".")[0]


@given(text=st.text(max_size=300), shaped=st.booleans())
def test_any_text_is_a_token_that_is_not_valid(text: str, shaped: bool) -> None:
    assert SIGNER.read(f"{HEAD}.{text}" if shaped else text, 0) is None


@given(
    said=st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=9),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(st.sampled_from(("iss", "sub", "exp", "amr", "gen")), inner, max_size=5)
        ),
        max_leaves=8,
    )
)
def test_signed_claims_of_any_shape_are_read_or_not_valid(said: object) -> None:
    body = encoded(orjson.dumps(said)) if not _too_big(said) else "e30"
    signed = f"{HEAD}.{body}"
    signature = encoded(hmac.digest(b"k" * 64, signed.encode(), "sha512"))
    assert SIGNER.read(f"{signed}.{signature}", 0) is None


def _too_big(said: object) -> bool:
    try:
        orjson.dumps(said)
    except TypeError:
        return True
    return False


def test_what_was_signed_is_read_until_it_ends() -> None:
    claims = Claims("u", "p", 3, ("password", "token"), ("a", "b"), 5, 9)
    token = SIGNER.sign(claims)
    assert SIGNER.read(token, 8.9) == claims
    assert SIGNER.read(token, 9) is None
    assert TokenSigner(b"o" * 64).read(token, 0) is None


async def test_long_names_are_refused_before_they_are_looked_up(cloud: Cloud) -> None:
    for user in (
        {"name": "n" * 256, "domain": {"id": "default"}},
        {"id": "i" * 65},
        {"name": "n", "domain": {"name": "d" * 256}},
    ):
        identity = {"methods": ["password"], "password": {"user": {**user, "password": "x"}}}
        answer = await cloud.first.post(f"{V3}/auth/tokens", json={"auth": {"identity": identity}})
        assert (answer.status_code, answer.json()["error"]["code"]) == (400, 400)


def test_the_key_is_made_once(tmp_path: Path) -> None:
    found: list[bytes] = []
    threads = [threading.Thread(target=lambda: found.append(ensure_signing_key(tmp_path))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(found)) == 1
    assert len(found[0]) == 64
    path = tmp_path / "secrets" / "token.key"
    assert path.stat().st_mode & 0o777 == 0o600
    assert [file.name for file in path.parent.iterdir()] == ["token.key"]
    path.write_bytes(b"short")
    with pytest.raises(SigningKeyError, match="damaged"):
        ensure_signing_key(tmp_path)
