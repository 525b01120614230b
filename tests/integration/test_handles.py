"""Handles on a real instance: programs of a user, as processes of their own, and what they leave on the machine."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.integration.conftest import Service

pytestmark = pytest.mark.timeout(240)
_DRIVER = Path(__file__).with_name("handles_driver.py")


def _run(service: Service, *command: str) -> str:
    """What a program prints that is told of the instance by its state directory alone."""
    environment = {**service.environment(), "PUMICE_STATE_DIR": str(service.state_dir)}
    done = subprocess.run([sys.executable, *command], env=environment, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def _traces(service: Service) -> list[str]:
    """Mounts of claims, claims, and loop devices over volumes of the instance."""
    node = service.state_dir / "node"
    mounts = [line for line in Path("/proc/self/mountinfo").read_text().splitlines() if str(node) in line]
    loops = [path.read_text().strip() for path in Path("/sys/block").glob("loop*/loop/backing_file")]
    volumes = [name for name in loops if name.startswith(str(service.state_dir)) and not name.endswith(".img")]
    return [*mounts, *volumes, *(path.name for path in node.glob("*/*"))]


@pytest.fixture(scope="module")
def seen(service: Service, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the driver saw."""
    directory = tmp_path_factory.mktemp("driver")
    _run(service, str(_DRIVER), str(directory))
    answer: dict[str, Any] = json.loads((directory / "seen.json").read_text())
    return answer


def test_what_is_written_in_a_task_is_read_in_another_from_a_clone_of_its_snapshot(seen: dict[str, Any]) -> None:
    assert seen["round"] == {
        "texts": ["hello (Read-only file system)", "later (Read-only file system)"],
        "path_gone": True,
        "left": [],
    }
    assert seen["locality"] == [True, True]


def test_copies_hold_what_the_volume_held(seen: dict[str, Any]) -> None:
    assert seen["fan_out"] == ["later (Read-only file system)"] * 3


def test_an_empty_volume_is_not_mounted_for_reading_and_stays_free(seen: dict[str, Any]) -> None:
    assert seen["empty"].startswith("FailedError: volume ")
    assert "is empty" in seen["empty"]
    assert seen["empty_after"] == ["available", []]


def test_a_volume_that_is_mounted_is_not_mounted_elsewhere(seen: dict[str, Any]) -> None:
    assert (seen["second"], seen["worker"]["held"]) == ("RefusedError", "in-use")


def test_a_killed_workers_volume_is_free_within_thirty_seconds(seen: dict[str, Any]) -> None:
    assert (seen["worker"]["status"], seen["worker"]["left"]) == ("available", [])
    assert seen["worker"]["seconds"] < 30


def test_a_mount_outlives_the_node_actor_and_is_released_at_its_end(seen: dict[str, Any]) -> None:
    assert seen["actor"]["text"] == "still held"
    assert (seen["actor"]["status"], seen["actor"]["left"]) == ("available", [])


def test_nothing_is_left_on_the_node(service: Service, seen: dict[str, Any]) -> None:
    assert (seen["many"], seen["volumes"]) == ([], [])
    assert _traces(service) == []
