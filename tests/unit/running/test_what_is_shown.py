"""What `pumice status` and `pumice logs` print."""

from __future__ import annotations

import json
from pathlib import Path

from click.testing import CliRunner

from serve_app.command.main import pumice
from serve_app.command.status import _table

VOLUME = "6e1b0a6e-2f7e-4b0e-9d5e-0a5b0c1d2e3f"


def test_the_table_has_headings_and_rounds() -> None:
    service = {"binary": "cinder-volume", "host": "h@b", "zone": "nova", "status": "enabled", "state": "up"}
    pools = [
        {"name": "h@b#p", "total_gib": 99.9511718, "free_gib": 1024.0, "state": "up", "ports": "kept"},
        {"name": "h@b#longer", "total_gib": None, "free_gib": "unknown", "state": "down", "ports": None},
    ]
    report = {
        "ready": True,
        "endpoint": "http://h/v3",
        "ray_address": None,
        "jobs": None,
        "state_dir": "/s",
        "database_error": None,
    }
    labels = {"disk": "nvme", "rack": "r1"}
    node = {
        "host": "h",
        "zone": "nova",
        "version": "0.1.0",
        "state": "up",
        "storage": "eth1 10.2.0.5",
        "labels": labels,
    }
    rows = {"nodes": [node], "services": [service], "pools": pools, "operations": []}
    assert _table({**report, **rows}).splitlines() == [
        "ready",
        "  endpoint     http://h/v3",
        "  state_dir    /s",
        "nodes:",
        "  HOST  ZONE  VERSION  STATE  STORAGE        LABELS",
        "  h     nova  0.1.0    up     eth1 10.2.0.5  disk=nvme rack=r1",
        "services:",
        "  BINARY         HOST  ZONE  STATUS   STATE",
        "  cinder-volume  h@b   nova  enabled  up",
        "pools:",
        "  NAME        TOTAL GiB  FREE GiB  STATE  PORTS",
        "  h@b#p       100.0      1024.0    up     kept",
        "  h@b#longer  -          unknown   down   -",
        "operations: none",
    ]


def test_the_log_of_a_volume_has_the_whole_of_its_requests(tmp_path: Path) -> None:
    files = {
        "api-0": [
            {"time": "1", "event": "post", "request_id": "req-1", "path": "/v3/p/volumes"},
            {"time": "2", "event": "other post", "request_id": "req-2", "path": "/v3/p/volumes"},
            {"time": "5", "event": "get", "request_id": "req-3", "path": f"/v3/p/volumes/{VOLUME}"},
        ],
        "conductor": [
            {"time": "3", "event": "forward", "request_id": "req-1", "resource_id": VOLUME},
            {"time": "4", "event": "beat"},
            {"time": "6", "event": "undo", "resource_id": VOLUME},
            {"time": "7", "event": "step", "request_id": "req-1"},
        ],
    }
    (tmp_path / "logs").mkdir()
    for name, events in files.items():
        lines = [json.dumps({**event, "level": "info", "process": name}) + "\n" for event in events]
        (tmp_path / "logs" / f"{name}.jsonl").write_text("".join(lines))

    def shown(*arguments: str) -> list[str]:
        done = CliRunner().invoke(pumice, ["logs", "--state-dir", str(tmp_path), "--json", *arguments])
        assert done.exit_code == 0
        return [json.loads(line)["event"] for line in done.stdout.splitlines()]

    assert shown("--volume", VOLUME) == ["post", "forward", "get", "undo", "step"]
    assert shown("--volume", VOLUME, "--request", "req-1") == ["post", "forward", "step"]
    assert shown("--volume", "another") == []
    assert shown("--request", "req-2") == ["other post"]
    assert len(shown()) == 7
