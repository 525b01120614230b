"""clouds.yaml: how OpenStack's clients find the service and who they are. Written once, mode 0600."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from cluster.outside import Outside
from cluster.settings import IdentityMode, Settings
from cluster.settings_file import write_private
from cluster.store.seam import Store
from serve_app.identity.bootstrap import bootstrap, reset_admin_password
from serve_app.identity.clouds import CLOUD, cloud_of


def clouds_path(state_dir: Path) -> Path:
    """Where an instance's clouds.yaml is."""
    return state_dir / "clouds.yaml"


async def ensure_credentials(store: Store, settings: Settings, outside: Outside) -> Path:
    """See that the first identities exist and that clouds.yaml tells of this endpoint; return its path.

    A password is known only when it is made, so one that stands in the file stays there. Without the file (removed, or
    never written because of a crash in between) the administrator of an embedded database gets a new one; that of a
    database which other control nodes may share does not.
    """
    path = clouds_path(settings.state_dir)
    old, known = _load(path), ""
    if settings.identity.mode is IdentityMode.EMBEDDED:
        made = await bootstrap(store, settings, outside)
        known = made.password if made is not None else old.get("auth", {}).get("password", "")
        if not known and settings.database_url is None:
            known = (await reset_admin_password(store, outside)).password
    write_private(path, yaml.safe_dump({"clouds": {CLOUD: cloud_of(settings, known, old)}}, sort_keys=False))
    return path


def _load(path: Path) -> dict[str, Any]:
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
        cloud = document["clouds"][CLOUD]
    except (OSError, yaml.YAMLError, KeyError, TypeError):
        return {}
    return cloud if isinstance(cloud, dict) else {}
