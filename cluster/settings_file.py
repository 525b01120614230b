"""The settings in force, as `pumice up` leaves them in the state directory for the other control processes."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from pydantic import BaseModel, SecretStr, ValidationError

from cluster.settings import Settings, SettingsError


def settings_path(state_dir: Path) -> Path:
    """Where an instance's settings in force are."""
    return state_dir / "settings.json"


def write_effective(settings: Settings) -> Path:
    """Write `settings`, secrets included, to a file that only the owner can read (mode 0600); return its path.

    The file is replaced in one step: a reader sees the old settings or the new ones.
    """
    path = settings_path(settings.state_dir)
    write_private(path, json.dumps(_plain(settings), indent=1) + "\n")
    return path


def write_private(path: Path, text: str) -> None:
    """Put `text` into `path` in one step, with mode 0600 from the first moment; it is on disk when this returns."""
    beside = path.with_name(f".{path.name}.new")
    beside.unlink(missing_ok=True)
    with os.fdopen(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    beside.replace(path)
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def load_effective(path: Path) -> Settings:
    """The settings in the file; variables and defaults of this process play no part.

    Raises SettingsError when the file is absent, broken, or of a version that knows other settings.
    """
    try:
        return Settings(**json.loads(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise SettingsError(f"{path}: cannot be read ({error.strerror}); `pumice up` writes it") from error
    except (ValidationError, ValueError) as error:
        raise SettingsError(f"{path}: does not hold settings of this version; run `pumice up` again") from error


def _plain(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return {name: _plain(getattr(value, name)) for name in type(value).model_fields}
    if isinstance(value, SecretStr):
        return value.get_secret_value()
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return str(value) if isinstance(value, Path) else value
