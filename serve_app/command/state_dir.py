"""The directory of an instance: whether a directory is one, making one, and the name of the host that it remembers.

Whoever mistypes --state-dir must not lose the rights or the mounts of a directory that has nothing to do with Pumice.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from actors.instance import ensure_private
from cluster.settings import Settings, SettingsError
from cluster.settings_file import settings_path

# Regular files: /var/run/lock, for one, is a directory.
_SIGNS = ("pumice.db", "run/instance.json", "run/up.json", "run/lock")
_OF_THE_FILE_SYSTEM = {"lost+found"}


def is_instance(directory: Path) -> bool:
    """Whether an instance has been in `directory`, if only for a moment."""
    return bool(_settings_in(directory)) or any((directory / sign).is_file() for sign in _SIGNS)


def is_head(directory: Path) -> bool:
    """Whether the head of an instance has been in `directory`, and not a node that has joined one."""
    return bool(_settings_in(directory))


def refuse_foreign(directory: Path) -> None:
    """Raise SettingsError when there is something in `directory` and it is no instance's."""
    if directory.exists() and not directory.is_dir():
        raise SettingsError(f"state_dir: {directory} is not a directory")
    if directory.is_dir() and not is_instance(directory):
        found = sorted(entry.name for entry in directory.iterdir() if entry.name not in _OF_THE_FILE_SYSTEM)
        if found:
            raise SettingsError(
                f"state_dir: {directory} is not empty and no instance's directory (there is {', '.join(found[:3])}"
                f"{', …' if len(found) > 3 else ''}); give an empty or a new one with --state-dir"
            )


def ensure_state_dir(directory: Path) -> None:
    """`directory` is an instance's, ours, and closed to others. Raises SettingsError when it is something else,
    InstanceError when it is somebody else's."""
    refuse_foreign(directory)
    ensure_private(directory)
    ensure_private(directory / "run")
    # The sign by which the next command knows it, before anything else comes in.
    (directory / "run" / "lock").touch(mode=0o600)


def with_remembered_host(settings: Settings) -> Settings:
    """`settings` with the host name under which this directory's volumes were recorded, unless they give the same.

    Raises SettingsError when another name was given. The machine's own name may change; that of a pool must not, or
    its volumes would belong to a host that does not exist.
    """
    remembered = _settings_in(settings.state_dir).get("host_name")
    if not isinstance(remembered, str) or remembered == settings.host_name:
        return settings
    if "host_name" in settings.model_fields_set:
        raise SettingsError(
            f"host_name: {settings.state_dir} was begun as {remembered!r}, and its volumes are recorded under that "
            f"name, so it cannot become {settings.host_name!r}; leave host_name out, or give another --state-dir"
        )
    return settings.model_copy(update={"host_name": remembered})


def _settings_in(directory: Path) -> dict[str, Any]:
    """What `pumice up` last wrote there; empty when there is nothing, or a settings.json of some other program."""
    try:
        found = json.loads(settings_path(directory).read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return {}
    return found if isinstance(found, dict) and {"state_dir", "backends"} <= found.keys() else {}
