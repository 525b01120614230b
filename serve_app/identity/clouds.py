"""The text of `clouds.yaml`, which stock OpenStack clients read: one cloud named `pumice`."""

from __future__ import annotations

from typing import Any

import yaml

from cluster.settings import IdentityMode, Settings
from serve_app.identity.bootstrap import AdminCredentials

CLOUD = "pumice"
# Cinder accepts hexadecimal digits and dashes only where a URL names a project.
NOAUTH_PROJECT = "0" * 32


def clouds_yaml(settings: Settings, credentials: AdminCredentials | None = None) -> str:
    """The file's content. `credentials` are needed unless the mode is noauth; a cluster that uses a Keystone of its
    own has that Keystone's clouds.yaml. Raises ValueError when they are missing."""
    if settings.identity.mode is IdentityMode.NOAUTH:
        cloud = _noauth(settings)
    elif credentials is None:
        raise ValueError("clouds.yaml needs the credentials that `bootstrap` or `reset_admin_password` returned")
    else:
        cloud = _embedded(settings, credentials)
    return yaml.safe_dump({"clouds": {CLOUD: cloud}}, sort_keys=False)


def _embedded(settings: Settings, credentials: AdminCredentials) -> dict[str, Any]:
    return {
        "auth": {
            "auth_url": f"{settings.endpoint}/identity/v3",
            "username": credentials.username,
            "password": credentials.password,
            "project_name": credentials.project_name,
            "user_domain_name": "Default",
            "project_domain_name": "Default",
        },
        "region_name": settings.region,
        "identity_api_version": "3",
        "volume_api_version": "3",
        "block_storage_api_version": "3",
    }


def _noauth(settings: Settings) -> dict[str, Any]:
    # `admin_token` is keystoneauth's way of sending a token as it is; its `none` sends no token at all.
    return {
        "auth_type": "admin_token",
        "auth": {"endpoint": f"{settings.endpoint}/v3", "token": f"admin:{NOAUTH_PROJECT}"},
        "region_name": settings.region,
        "volume_api_version": "3",
        "block_storage_api_version": "3",
    }
