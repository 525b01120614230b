"""`pumice down`: stop an instance, or clear away what one that was killed has left."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import click

from actors import processes
from actors.instance import mark_of
from cluster.settings import SettingsError
from cluster.storage_network import nft, shaping, ways
from cluster.storage_network.allow_list import table_prefix
from drivers.exports.clearing import devices, limited
from serve_app.command.options import STATE_DIR, fail, settings_of
from serve_app.command.release import own_mounts, release
from serve_app.command.run_file import RunFile
from serve_app.command.state_dir import refuse_foreign

_SECONDS = 90


@click.command()
@STATE_DIR
def down(state_dir: Path | None) -> None:
    """Stop the instance. Volumes stay where they are; `pumice up` finds them again."""
    directory = settings_of(state_dir=state_dir).state_dir
    try:
        refuse_foreign(directory)
    except SettingsError as error:
        fail(str(error), code=2)
    except OSError as error:
        fail(f"{directory}: {error.strerror}")
    file = RunFile(directory)
    run = file.read()
    if run is not None and run.is_alive():
        _ask(run.pid)
        deadline = time.monotonic() + _SECONDS
        while run.is_alive():
            if time.monotonic() > deadline:
                fail(f"process {run.pid} has not ended after {_SECONDS} s; it may be killed: kill -9 {run.pid}")
            time.sleep(0.1)
    elif not _has_left(directory):
        file.clear()
        click.echo(f"nothing runs in {directory}")
        return
    if troubles := release(directory):
        fail("\n".join(troubles))
    file.clear()
    click.echo("stopped")


def _has_left(directory: Path) -> bool:
    mark = mark_of(directory)
    return bool(
        processes.of_instance(mark)
        or own_mounts(directory)
        or any(devices(directory))
        or any(limited(directory))
        or nft.left(table_prefix(mark))
        or shaping.is_left(mark, ways.backends(directory))
    )


def _ask(pid: int) -> None:
    try:
        handle = os.pidfd_open(pid)
        try:
            signal.pidfd_send_signal(handle, signal.SIGTERM)
        finally:
            os.close(handle)
    except ProcessLookupError:
        return
    except PermissionError:
        fail(f"process {pid} is not yours to stop")
