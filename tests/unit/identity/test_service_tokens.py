"""Whether a request is a service's: an X-Service-Token that is valid and has the role `service`, and nothing else."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from pydantic import SecretStr

from cluster.caller import Caller
from cluster.settings import IdentityMode, IdentitySettings
from serve_app.identity.authenticator import Authenticator
from serve_app.identity.embedded import EmbeddedAuthenticator
from serve_app.identity.keystone import KeystoneAuthenticator
from serve_app.identity.noauth import NoAuthenticator
from serve_app.identity.signing_key import ensure_signing_key
from serve_app.identity.tokens import TokenSigner
from serve_app.wire.faults import Unauthorized
from tests.unit.identity.conftest import Cloud

_ROLES = {"user": ["member"], "service": ["service"], "other": ["member", "admin"]}


@pytest.fixture(params=["embedded", "keystone"])
async def one(request: pytest.FixtureRequest, cloud: Cloud) -> tuple[Authenticator, dict[str, str]]:
    """An authenticator, and tokens of users with these roles."""
    if request.param == "embedded":
        tokens = {}
        for user, roles in _ROLES.items():
            await cloud.add(user, *roles)
            tokens[user] = await cloud.token(user)
        signer = TokenSigner(ensure_signing_key(cloud.settings.state_dir))
        return EmbeddedAuthenticator(cloud.store, cloud.outside, signer, "http://k/v3", cloud.clock), tokens
    settings = IdentitySettings(
        mode=IdentityMode.KEYSTONE, keystone_url="http://k/v3", keystone_password=SecretStr("x")
    )
    tokens = {user: f"token-of-{user}" for user in _ROLES}
    return KeystoneAuthenticator(settings, transport=httpx.MockTransport(_keystone)), tokens


def _keystone(request: httpx.Request) -> httpx.Response:
    """What a Keystone answers that knows the tokens."""
    until = (datetime.now(UTC) + timedelta(hours=1)).strftime("%Y-%m-%dT%H:%M:%S.000000Z")
    if request.method == "POST":
        return httpx.Response(201, json={"token": {"expires_at": until}}, headers={"X-Subject-Token": "own"})
    user = request.headers["x-subject-token"].removeprefix("token-of-")
    if user not in _ROLES:
        return httpx.Response(404)
    token: dict[str, Any] = {"expires_at": until, "user": {"id": user, "name": user}}
    token |= {"project": {"id": "p", "name": "demo"}, "roles": [{"name": role} for role in _ROLES[user]]}
    return httpx.Response(200, json={"token": token})


async def _caller(one: tuple[Authenticator, dict[str, str]], user: str, service: str | None) -> Caller:
    authenticator, tokens = one
    headers = {"x-auth-token": tokens[user]}
    if service is not None:
        headers["x-service-token"] = tokens.get(service, service)
    return await authenticator.authenticate(headers, "req-1")


@pytest.mark.parametrize(
    ("user", "service", "is_service"),
    [
        ("user", None, False),
        ("user", "", False),
        ("user", "service", True),
        ("user", "other", False),
        ("user", "user", False),
        ("service", None, False),
        ("service", "service", True),
        ("other", None, False),
    ],
)
async def test_only_a_service_token_with_the_role_makes_it_one(
    one: tuple[Authenticator, dict[str, str]], user: str, service: str | None, is_service: bool
) -> None:
    caller = await _caller(one, user, service)
    assert caller.is_service is is_service
    assert caller.is_admin is (user == "other")


async def test_a_service_token_that_is_not_valid_is_refused(one: tuple[Authenticator, dict[str, str]]) -> None:
    with pytest.raises(Unauthorized):
        await _caller(one, "user", "made-up")


async def test_the_role_comes_with_the_service_token_and_makes_no_administrator(
    one: tuple[Authenticator, dict[str, str]],
) -> None:
    caller = await _caller(one, "user", "service")
    assert not caller.is_admin
    assert (await _caller(one, "user", "other")).is_admin is False


async def test_without_authentication_nobody_is_a_service() -> None:
    headers = {"x-auth-token": "user:demo", "x-service-token": "service"}
    assert not (await NoAuthenticator().authenticate(headers, "req-1")).is_service
