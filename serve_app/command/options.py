"""Options that several commands share, and the settings they add up to."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import click

from cluster.settings import Settings, SettingsError, load

STATE_DIR = click.option(
    "--state-dir",
    type=click.Path(file_okay=False, path_type=Path),
    help="Directory of the instance (default: ~/.local/state/pumice, or PUMICE_STATE_DIR).",
)
CONFIG = click.option(
    "--config",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    envvar="PUMICE_CONFIG",
    help="TOML file of settings.",
)


def with_options(*options: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """A decorator that adds the options in the order given."""

    def decorate(function: Any) -> Any:
        for option in reversed(options):
            function = option(function)
        return function

    return decorate


def settings_of(config: Path | None = None, **arguments: Any) -> Settings:
    """The settings that arguments, variables and the file add up to. Wrong ones end the command with code 2."""
    try:
        return load(arguments, config)
    except SettingsError as error:
        fail(str(error), code=2)


def fail(message: str, code: int = 1) -> NoReturn:
    """Say what went wrong, a line each, and end."""
    for line in message.splitlines():
        click.echo(f"pumice: {line}", err=True)
    raise SystemExit(code)
