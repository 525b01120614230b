"""`pumice`: the command line. What may be expected to go wrong is a sentence on standard error, never a traceback.

Exit codes: 0 done or ready; 1 not ready, not running, or failed; 2 a setting or an argument is wrong.
"""

from __future__ import annotations

import click

from serve_app.command.db import db
from serve_app.command.down import down
from serve_app.command.join import join
from serve_app.command.logs import logs
from serve_app.command.orphans import orphans
from serve_app.command.status import status
from serve_app.command.up import up


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="pumice")
def pumice() -> None:
    """Block storage for a Ray cluster, with Cinder's v3 API."""


for _command in (up, join, down, status, db, logs, orphans):
    pumice.add_command(_command)

if __name__ == "__main__":
    pumice(prog_name="pumice")
