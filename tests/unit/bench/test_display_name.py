"""What the benchmark calls the processes that it counts."""

from __future__ import annotations

import pytest

from tests.bench.processes import display_name


@pytest.mark.parametrize(
    ("argv", "name"),
    [
        (["/usr/lib/ray/gcs_server", "--log_dir=x"], "gcs_server"),
        (["ray::ServeReplica:pumice:App.handle_request"], "ray::ServeReplica:pumice:App"),
        (["ray::Conductor"], "ray::Conductor"),
        (["/venv/bin/python", "-u", "/venv/lib/ray/dashboard/agent.py", "--port=1"], "agent.py"),
        (["python3.11", "-m", "serve_app.command.supervisor", "/state"], "serve_app.command.supervisor"),
        (["python", "-c", "import time"], "python"),
        (["python"], "python"),
        ([""], "kworker"),
        ([], "kworker"),
    ],
)
def test_a_process_is_called_what_a_person_would_call_it(argv: list[str], name: str) -> None:
    assert display_name(argv, "kworker") == name
