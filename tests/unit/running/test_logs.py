from __future__ import annotations

import json
import logging
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

from cluster import logs


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    root = logging.getLogger()
    before = list(root.handlers)
    yield
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()
    for handler in [item for item in root.handlers if item not in before]:
        root.removeHandler(handler)
        handler.close()


def lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_an_event_is_a_line_with_what_was_bound(tmp_path: Path) -> None:
    path = logs.configure(tmp_path / "logs", "api-0")
    with structlog.contextvars.bound_contextvars(request_id="req-1"):
        structlog.get_logger().info("volume.created", volume_id="v1")
    [event] = lines(path)
    assert event == {
        "time": event["time"],
        "level": "info",
        "event": "volume.created",
        "process": "api-0",
        "request_id": "req-1",
        "volume_id": "v1",
    }
    assert len(event["time"]) == 26
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_secrets_are_struck_out_at_any_depth(tmp_path: Path) -> None:
    path = logs.configure(tmp_path, "api-0")
    structlog.get_logger().info(
        "x",
        password="one",
        auth={"auth_key": "two", "name": "n", "list": [{"X-Auth-Token": "three"}]},
        url="postgresql://u:four@h/db",
    )
    text = path.read_text()
    assert not any(word in text for word in ("one", "two", "three", "four"))
    assert '"n"' in text


def test_other_libraries_are_heard_from_warnings_up(tmp_path: Path) -> None:
    path = logs.configure(tmp_path, "p")
    logging.getLogger("somebody").info("quiet")
    logging.getLogger("somebody").warning("loud %s", 1)
    logging.getLogger("drivers.reflink").setLevel(logging.NOTSET)
    logging.getLogger("drivers.reflink").info("ours")
    assert [event["event"] for event in lines(path)] == ["loud 1", "ours"]


def test_an_exception_is_whole(tmp_path: Path) -> None:
    path = logs.configure(tmp_path, "p")
    try:
        raise ValueError("why")
    except ValueError:
        structlog.get_logger().exception("failed")
    [event] = lines(path)
    assert event["exception"].startswith("Traceback")
    assert event["exception"].endswith("ValueError: why")


def test_files_are_merged_by_time_and_a_torn_line_is_passed_over(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl.1").write_text('{"time":"1","event":"a"}\n')
    (tmp_path / "a.jsonl").write_text('{"time":"3","event":"c"}\n{"time":"4","ev')
    (tmp_path / "b.jsonl").write_text('{"time":"2","event":"b"}\n')
    assert [event["event"] for event in logs.read(tmp_path)] == ["a", "b", "c"]
    assert [event["event"] for event in logs.read(tmp_path, lambda event: event["event"] > "a")] == ["b", "c"]


def test_processes_of_one_kind_get_files_of_their_own(tmp_path: Path) -> None:
    assert logs.free_name(tmp_path, "api") == "api-0"
    assert logs.free_name(tmp_path, "api") == "api-1"
