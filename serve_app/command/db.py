"""`pumice db`: the database's schema."""

from __future__ import annotations

import asyncio
from pathlib import Path

import click

from actors.instance import InstanceError
from cluster.settings import SettingsError
from serve_app.command.options import CONFIG, STATE_DIR, fail, settings_of, with_options
from serve_app.command.state_dir import ensure_state_dir


@click.group()
def db() -> None:
    """The database."""


@db.command()
@with_options(CONFIG, STATE_DIR)
def upgrade(config: Path | None, state_dir: Path | None) -> None:
    """Bring the schema up to date. `pumice up` does it as well; safe to repeat and while an instance runs."""
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import SQLAlchemyError

    from cluster.store.open import migrate

    settings = settings_of(config, state_dir=state_dir)
    place = make_url(settings.database).render_as_string(hide_password=True)
    try:
        ensure_state_dir(settings.state_dir)
        asyncio.run(migrate(settings.database))
    except SettingsError as error:
        fail(str(error), code=2)
    except (InstanceError, OSError) as error:
        fail(str(error))
    except SQLAlchemyError as error:
        fail(f"{place}: {str(error).splitlines()[0]}")
    click.echo(f"{place} is up to date")
