"""`pumice logs`: what all processes of an instance have logged, in order of time."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import click

from cluster import logs as log_files
from serve_app.command.options import STATE_DIR, fail, settings_of, with_options

_HEAD = ("time", "level", "process", "event")
_FOLLOW_SECONDS = 0.5


@click.command()
@with_options(STATE_DIR)
@click.option("--request", "request_id", help="Only what belongs to this request (req-…).")
@click.option("--volume", "volume_id", help="Only what belongs to this volume.")
@click.option("--follow", "-f", is_flag=True, help="Go on printing what is logged from now on.")
@click.option("--json", "as_json", is_flag=True, help="The lines as they are in the files.")
def logs(state_dir: Path | None, request_id: str | None, volume_id: str | None, follow: bool, as_json: bool) -> None:
    """Print the log of the instance."""
    directory = settings_of(state_dir=state_dir).state_dir / "logs"
    if not directory.is_dir():
        fail(f"{directory} does not exist: no instance has run there")

    def wanted(event: dict[str, Any]) -> bool:
        return _concerns(event, request_id, volume_id)

    begin = {path: path.stat().st_size for path in directory.glob("*.jsonl")}
    try:
        for event in log_files.read(directory, wanted):
            _show(event, as_json)
        while follow:
            time.sleep(_FOLLOW_SECONDS)
            for event in _news(directory, begin):
                if wanted(event):
                    _show(event, as_json)
    except (KeyboardInterrupt, BrokenPipeError):
        return


def _concerns(event: dict[str, Any], request_id: str | None, volume_id: str | None) -> bool:
    if request_id is not None and request_id not in (event.get("request_id"), event.get("global_request_id")):
        return False
    if volume_id is None:
        return True
    return volume_id in (event.get("volume_id"), event.get("resource_id")) or volume_id in str(event.get("path", ""))


def _news(directory: Path, begin: dict[Path, int]) -> list[dict[str, Any]]:
    """The events that were written behind `begin`, which moves on."""
    events = []
    for path in directory.glob("*.jsonl"):
        size = path.stat().st_size
        at = begin.get(path, 0)
        with path.open("rb") as file:
            # A file that has shrunk was rotated: it begins anew.
            file.seek(at if size >= at else 0)
            lines = file.read()
            whole = lines[: lines.rfind(b"\n") + 1]
            begin[path] = (at if size >= at else 0) + len(whole)
        events += [event for line in whole.decode(errors="replace").splitlines() if (event := log_files.parse(line))]
    return sorted(events, key=lambda event: str(event.get("time", "")))


def _show(event: dict[str, Any], as_json: bool) -> None:
    if as_json:
        import orjson

        click.echo(orjson.dumps(event).decode())
        return
    rest = " ".join(f"{key}={value}" for key, value in event.items() if key not in (*_HEAD, "exception"))
    click.echo(" ".join(str(event.get(key, "")) for key in _HEAD) + (f"  {rest}" if rest else ""))
    if "exception" in event:
        click.echo(str(event["exception"]))
