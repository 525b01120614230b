"""`pumice status`: what runs, and whether a volume could be created now."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path
from typing import Any, NoReturn

import click

from cluster.settings import Settings, SettingsError
from cluster.settings_file import load_effective, settings_path
from serve_app.command import node_file
from serve_app.command.node_file import JoinedAs
from serve_app.command.options import STATE_DIR, fail, settings_of, with_options
from serve_app.command.run_file import Run, RunFile

# Title → heading → key of the row.
_COLUMNS = {
    "nodes": {
        "HOST": "host",
        "ZONE": "zone",
        "VERSION": "version",
        "STATE": "state",
        "STORAGE": "storage",
        "LABELS": "labels",
    },
    "services": {"BINARY": "binary", "HOST": "host", "ZONE": "zone", "STATUS": "status", "STATE": "state"},
    "pools": {"NAME": "name", "TOTAL GiB": "total_gib", "FREE GiB": "free_gib", "STATE": "state", "PORTS": "ports"},
    "operations": {"KIND": "kind", "RESOURCE": "resource_id", "ATTEMPTS": "attempts", "CREATED": "created_at"},
}


@click.command()
@with_options(STATE_DIR)
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def status(state_dir: Path | None, as_json: bool) -> None:
    """Show nodes, services, pools and operations in flight; on a node that has joined, whether it is in the cluster.
    Exit code 0: ready; 1: not ready or not running."""
    directory = settings_of(state_dir=state_dir).state_dir
    run = RunFile(directory).read()
    if run is not None and not run.is_alive():
        run = None
    if (node := node_file.read(directory)) is not None:
        _joined(node, run, as_json)
    try:
        settings = load_effective(settings_path(directory))
    except SettingsError as error:
        if as_json:
            click.echo(json.dumps({"ready": False, "state": "not running", "state_dir": str(directory)}))
            raise SystemExit(1) from error
        fail(f"nothing has run in {directory} yet; start it with `pumice up`")
    report = asyncio.run(_report(settings, run))
    click.echo(json.dumps(report, indent=1) if as_json else _table(report))
    raise SystemExit(0 if report["ready"] else 1)


def _joined(node: JoinedAs, run: Run | None, as_json: bool) -> NoReturn:
    ready, state = run is not None and run.ready, run.state if run is not None else "not running"
    if as_json:
        click.echo(
            json.dumps({"ready": ready, "state": state, "host_name": node.host_name, "head": node.head}, indent=1)
        )
    else:
        click.echo("ready" if ready else f"not ready: {state}")
        click.echo(f"  host_name    {node.host_name}\n  head         {node.head}")
    raise SystemExit(0 if ready else 1)


async def _report(settings: Settings, run: Run | None) -> dict[str, Any]:
    from serve_app.command.records import look

    records = await look(settings, time.time())
    up = any(row["state"] == "up" and row["binary"] == "cinder-volume" for row in records.services)
    return {
        "ready": run is not None and run.ready and up and bool(records.pools),
        "state": run.state if run is not None else "not running",
        "endpoint": f"{settings.endpoint}/v3",
        "ray_address": run.ray_address if run is not None else None,
        "jobs": run.jobs if run is not None else None,
        "state_dir": str(settings.state_dir),
        "pid": run.pid if run is not None else None,
        "database_error": records.error,
        "nodes": records.nodes,
        "services": records.services,
        "pools": records.pools,
        "operations": records.operations,
    }


def _table(report: dict[str, Any]) -> str:
    lines = ["ready" if report["ready"] else f"not ready: {report['state']}"]
    lines += [
        f"  {key:12} {report[key]}"
        for key in ("endpoint", "ray_address", "jobs", "state_dir", "database_error")
        if report[key]
    ]
    for title, columns in _COLUMNS.items():
        lines.append(f"{title}:" if report[title] else f"{title}: none")
        if report[title]:
            lines += _rows([list(columns), *([_cell(row[key]) for key in columns.values()] for row in report[title])])
    return "\n".join(line.rstrip() for line in lines)


def _rows(rows: list[list[str]]) -> list[str]:
    widths = [max(len(row[index]) for row in rows) for index in range(len(rows[0]))]
    return ["  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]


def _cell(value: object) -> str:
    if isinstance(value, dict):
        return " ".join(f"{key}={item}" for key, item in value.items()) or "-"
    if isinstance(value, float):
        return f"{value:.1f}"
    return "-" if value is None else str(value)
