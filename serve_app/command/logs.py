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
@click.option("--volume", "volume_id", help="Only what belongs to this volume, with all of its requests.")
@click.option("--follow", "-f", is_flag=True, help="Go on printing what is logged from now on.")
@click.option("--json", "as_json", is_flag=True, help="The lines as they are in the files.")
def logs(state_dir: Path | None, request_id: str | None, volume_id: str | None, follow: bool, as_json: bool) -> None:
    """Print the log of the instance."""
    directory = settings_of(state_dir=state_dir).state_dir / "logs"
    if not directory.is_dir():
        fail(f"{directory} does not exist: no instance has run there")

    choice = _Choice(request_id, volume_id)
    begin = {path: path.stat().st_size for path in directory.glob("*.jsonl")}
    try:
        if volume_id is not None:
            for event in log_files.read(directory, choice.names_the_volume):
                choice.learn(event)
        for event in log_files.read(directory, choice.wants):
            _show(event, as_json)
        while follow:
            time.sleep(_FOLLOW_SECONDS)
            events = _news(directory, begin)
            for event in events:
                choice.learn(event)
            for event in filter(choice.wants, events):
                _show(event, as_json)
    except (KeyboardInterrupt, BrokenPipeError):
        return


class _Choice:
    """Which events to show. A request concerns a volume when an event of it names the volume; then all of it does:
    the line of a POST cannot know the id of what it made."""

    def __init__(self, request_id: str | None, volume_id: str | None) -> None:
        self._request_id, self._volume_id = request_id, volume_id
        self._requests: set[str] = set()

    def names_the_volume(self, event: dict[str, Any]) -> bool:
        """Whether the event itself says that it is about the volume."""
        if self._volume_id is None:
            return False
        about = (event.get("volume_id"), event.get("resource_id"))
        return self._volume_id in about or self._volume_id in str(event.get("path", ""))

    def learn(self, event: dict[str, Any]) -> None:
        """Remember the event's request when it concerns the volume."""
        if self.names_the_volume(event) and event.get("request_id"):
            self._requests.add(str(event["request_id"]))

    def wants(self, event: dict[str, Any]) -> bool:
        """Whether to show the event, as far as is known by now."""
        request_ids = (event.get("request_id"), event.get("global_request_id"))
        if self._request_id is not None and self._request_id not in request_ids:
            return False
        return self._volume_id is None or self.names_the_volume(event) or event.get("request_id") in self._requests


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
