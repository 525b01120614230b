"""The content of `clouds.yaml`, which stock OpenStack clients read: one cloud named `pumice`."""

from __future__ import annotations

from typing import Any

from cluster.settings import IdentityMode, Settings

CLOUD = "pumice"
# Cinder accepts hexadecimal digits and dashes only where a URL names a project.
NOAUTH_PROJECT = "0" * 32


def cloud_of(settings: Settings, password: str = "", old: dict[str, Any] | None = None) -> dict[str, Any]:
    """The cloud's entry. `password` is the administrator's (embedded mode); `old` is the entry of an earlier file, from
    which a Keystone's users, that somebody filled in, are kept."""
    if settings.identity.mode is IdentityMode.NOAUTH:
        return _noauth(settings)
    if settings.identity.mode is IdentityMode.KEYSTONE:
        auth = {"username": "", "password": "", "project_name": "", **_domains(), **(old or {}).get("auth", {})}
        return _cloud(settings, {**auth, "auth_url": settings.identity.keystone_url})
    auth = {"username": "admin", "password": password, "project_name": "admin", **_domains()}
    return _cloud(settings, {"auth_url": f"{settings.endpoint}/identity/v3", **auth})


def _domains() -> dict[str, str]:
    return {"user_domain_name": "Default", "project_domain_name": "Default"}


def _cloud(settings: Settings, auth: dict[str, Any]) -> dict[str, Any]:
    return {
        "auth": auth,
        "region_name": settings.region,
        "identity_api_version": "3",
        "volume_api_version": "3",
        "block_storage_api_version": "3",
        # Without it the client asks for 3.0, and commands of later versions (messages, summary) are 404.
        "block_storage_default_microversion": "3.71",
    }


def _noauth(settings: Settings) -> dict[str, Any]:
    # `admin_token` is keystoneauth's way of sending a token as it is; its `none` sends no token at all.
    auth = {"endpoint": f"{settings.endpoint}/v3", "token": f"admin:{NOAUTH_PROJECT}"}
    return {**_cloud(settings, auth), "auth_type": "admin_token"}
