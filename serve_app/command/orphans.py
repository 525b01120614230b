"""`pumice orphans`: objects that were found on a backend and that no row stands for.

What loads SQL is imported where it is used: every command imports this module, `pumice up` among them, which stays.
"""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import click

from cluster.caller import Caller
from cluster.errors import RequestError
from cluster.outside import Outside
from cluster.settings import Settings, SettingsError
from cluster.settings_file import load_effective, settings_path
from serve_app.command.options import STATE_DIR, fail, settings_of, with_options

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from cluster.store.seam import Work

T = TypeVar("T")
GIB = 1 << 30


@click.group()
def orphans() -> None:
    """Objects on a backend without a volume or snapshot. Nothing is deleted unless you say so."""


@orphans.command("list")
@with_options(STATE_DIR)
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def list_(state_dir: Path | None, as_json: bool) -> None:
    """Show the orphans that the last comparison found."""
    from cluster.reconcile import intents

    rows = _run(_settings(state_dir), intents.orphans, write=False)
    if as_json:
        click.echo(json.dumps(rows, indent=1))
        return
    for row in rows:
        size = f"{row['size_bytes'] / GIB:.1f} GiB"
        click.echo(f"{row['id']}  {row['kind']:8}  {size:>10}  {row['host']}  {row['location']}")
    if not rows:
        click.echo("no orphans")


@orphans.command()
@with_options(STATE_DIR)
@click.argument("orphan_id")
@click.option("--project", "project_id", required=True, help="Id of the project that gets it.")
@click.option("--user", "user_id", default="", help="Id of the user that it is to belong to.")
@click.option("--name", default=None, help="Name of the new volume or snapshot.")
def adopt(state_dir: Path | None, orphan_id: str, project_id: str, user_id: str, name: str | None) -> None:
    """Make a volume or snapshot of an orphan; it becomes available within seconds."""
    from cluster.reconcile import intents
    from cluster.volume_types.queries import by_name_or_id

    settings, outside = _settings(state_dir), Outside()
    caller = _caller(outside, user_id, project_id)

    def work(db: Connection) -> str:
        kind = by_name_or_id(db, caller, settings.default_volume_type)
        return intents.adopt(db, outside, caller, orphan_id, name=name, volume_type_id=str(kind["id"]))

    click.echo(f"adopting {orphan_id} (operation {_run(settings, work)})")


@orphans.command()
@with_options(STATE_DIR)
@click.argument("orphan_id")
@click.confirmation_option(prompt="Its data will be gone. Delete it?")
def delete(state_dir: Path | None, orphan_id: str) -> None:
    """Delete an orphan from its backend."""
    from cluster.reconcile import intents

    settings, outside = _settings(state_dir), Outside()
    caller = _caller(outside, "", "")
    operation = _run(settings, lambda db: intents.delete(db, settings, outside, caller, orphan_id))
    click.echo(f"deleting {orphan_id} (operation {operation})")


def _caller(outside: Outside, user_id: str, project_id: str) -> Caller:
    return Caller(user_id=user_id, project_id=project_id, request_id=f"req-{outside.new_id()}", is_admin=True)


def _settings(state_dir: Path | None) -> Settings:
    try:
        return load_effective(settings_path(settings_of(state_dir=state_dir).state_dir))
    except SettingsError as error:
        fail(str(error))


def _run(settings: Settings, work: Work[T], *, write: bool = True) -> T:
    from cluster.store.open import open_store
    from cluster.store.seam import StoreError

    async def go() -> T:
        store = open_store(settings.database)
        try:
            return await (store.write(work) if write else store.read(work))
        finally:
            await store.close()

    try:
        return asyncio.run(go())
    except (RequestError, StoreError) as error:
        fail(str(error))
