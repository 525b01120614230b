from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from actors import head_environment
from actors import instance as instance_module
from actors.instance import InstanceError, ensure_instance, ensure_private, load_instance, mark_of
from cluster.settings import Settings
from cluster.settings_file import load_effective, write_effective


@pytest.fixture
def root() -> Iterator[Path]:
    """A directory whose path is short enough for sockets below it."""
    with tempfile.TemporaryDirectory(prefix="u") as directory:
        yield Path(directory)


def test_an_instance_keeps_its_ports(root: Path) -> None:
    first = ensure_instance(root / "s")
    assert ensure_instance(root / "s") == first == load_instance(root / "s")


def test_ports_that_somebody_else_has_are_left_to_him(root: Path) -> None:
    first = ensure_instance(root / "s")
    with socket.socket() as other:
        other.bind(("", first.port(1)))
        other.listen()
        assert ensure_instance(root / "s").base_port != first.base_port


def test_no_ports_at_all(root: Path) -> None:
    with socket.socket() as other:
        other.bind(("", ensure_instance(root / "other").port(1)))
        other.listen()
        taken = other.getsockname()[1] // 200
        with pytest.raises(InstanceError, match="TCP ports"):
            ensure_instance(root / "s", choose=lambda low, high: taken)


def test_ports_that_other_machines_know_are_waited_for_and_never_changed(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = ensure_instance(root, known_elsewhere=True)
    with socket.socket() as other:
        other.bind(("", before.port(0)))
        other.listen()
        monkeypatch.setattr(instance_module, "_FREE_SECONDS", 0.0)
        with pytest.raises(InstanceError, match=f"port {before.base_port}.*let every node join"):
            ensure_instance(root, known_elsewhere=True)
        monkeypatch.setattr(instance_module, "_FREE_SECONDS", 10.0)
        monkeypatch.setattr(instance_module.time, "sleep", lambda _: other.close())
        assert ensure_instance(root, known_elsewhere=True) == before


def test_a_long_path_gets_a_short_directory_that_is_its_own(root: Path) -> None:
    deep = root / ("x" * 60)
    instance = ensure_instance(deep)
    try:
        assert len(str(instance.short_dir)) <= 36
        assert instance.short_dir.name == f"pumice-{mark_of(deep)}"
        assert instance.short_dir.stat().st_mode & 0o777 == 0o700
    finally:
        instance.short_dir.rmdir()


def test_a_directory_of_somebody_else_is_refused(root: Path) -> None:
    (root / "real").mkdir()
    (root / "link").symlink_to(root / "real")
    with pytest.raises(InstanceError, match="not a directory of ours"):
        ensure_private(root / "link")


def settings(state_dir: Path, **more: object) -> Settings:
    return Settings(state_dir=state_dir, **more)


def test_secrets_of_the_caller_do_not_reach_other_processes(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PUMICE_DATABASE_URL", "postgresql://u:secret@h/db")
    monkeypatch.setenv("RAY_ADDRESS", "elsewhere:6379")
    instance = ensure_instance(root)
    found = head_environment.environment(settings(root), instance)
    assert "PUMICE_DATABASE_URL" not in found
    assert "RAY_ADDRESS" not in found
    assert found["PUMICE_STATE_DIR"] == str(root)
    assert found["RAY_AUTH_MODE"] == "token"
    own, _, callers = found["PATH"].partition(os.pathsep)
    assert (own, callers) == (str(Path(sys.executable).parent), os.environ["PATH"]), "`python` is this one"


@pytest.mark.parametrize(
    ("more", "taken", "whole"),
    [({}, True, "false"), ({"jobs": False}, False, "false"), ({"jobs": False, "dashboard": True}, True, "true")],
)
def test_jobs_are_taken_on_loopback_unless_they_are_turned_off(
    root: Path, more: dict[str, bool], taken: bool, whole: str
) -> None:
    instance = ensure_instance(root)
    one = settings(root, cluster_address="192.0.2.7", **more)
    port = instance.port(head_environment.DASHBOARD)
    assert head_environment.jobs_url(one, instance) == (f"http://127.0.0.1:{port}" if taken else None)
    arguments = head_environment.head_arguments(one, instance)
    assert {f"--dashboard-port={port}", f"--include-dashboard={whole}"} <= set(arguments)
    assert f"--include-log-monitor={str(one.jobs).lower()}" in arguments


@pytest.mark.parametrize("listen", [{}, {"listen": "0.0.0.0", "public_url": "http://far"}])
def test_ray_binds_to_loopback_unless_there_may_be_other_nodes(root: Path, listen: dict[str, str]) -> None:
    instance = ensure_instance(root)
    here, cluster = settings(root, **listen), settings(root, **listen, cluster_address="192.0.2.7")
    assert head_environment.environment(here, instance)["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] == "0"
    assert "--node-ip-address=127.0.0.1" in head_environment.head_arguments(here, instance)
    assert "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER" not in head_environment.environment(cluster, instance)
    assert "--node-ip-address=192.0.2.7" in head_environment.head_arguments(cluster, instance)
    assert head_environment.ray_address(cluster, instance) == f"192.0.2.7:{instance.base_port}"


@pytest.mark.parametrize(
    ("listen", "expected"),
    [
        ("127.0.0.1", "127.0.0.1:8776"),
        ("192.0.2.7", "127.0.0.1:8776,192.0.2.7:8776"),
        ("2001:db8::7", "127.0.0.1:8776,[2001:db8::7]:8776"),
        ("0.0.0.0", "*:8776"),
        ("::", "[::]:8776"),
    ],
)
def test_the_api_is_opened_where_it_was_asked_for_however_often(root: Path, listen: str, expected: str) -> None:
    instance = ensure_instance(root)
    script, config = root / "haproxy", root / "config"
    chosen = settings(root, listen=listen, public_url="http://far")
    script.write_text(head_environment.wrapper_script(chosen, instance, "/bin/true"))
    metrics = instance.port(head_environment.HAPROXY_METRICS)
    config.write_text(f"  bind :{metrics}\n  bind 127.0.0.1:8776\n  server a 127.0.0.1:8776 check\n")
    for _ in range(2):
        subprocess.run(["sh", str(script), "-c", "-f", str(config)], check=True)
        lines = config.read_text().splitlines()
        assert lines[:2] == [f"  bind 127.0.0.1:{metrics}", f"  bind {expected}"]
        assert lines[2].split()[:3] == ["http-after-response", "set-status", "503"]
        assert lines[3:] == ["  server a 127.0.0.1:8776 check"]


def test_settings_survive_the_file(root: Path) -> None:
    before = settings(root, database_url="postgresql+psycopg://u:secret@h/db", backends={"a": {"options": {"x": [1]}}})
    path = write_effective(before)
    assert load_effective(path) == before
    assert path.stat().st_mode & 0o777 == 0o600
