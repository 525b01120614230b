from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from actors import head_environment
from actors.instance import InstanceError, ensure_instance, ensure_private, load_instance, mark_of
from cluster.settings import Settings
from cluster.settings_file import load_effective, write_effective


def test_an_instance_keeps_its_ports(tmp_path: Path) -> None:
    first = ensure_instance(tmp_path / "s")
    assert ensure_instance(tmp_path / "s") == first == load_instance(tmp_path / "s")


def test_ports_that_somebody_else_has_are_left_to_him(tmp_path: Path) -> None:
    first = ensure_instance(tmp_path / "s")
    with socket.socket() as other:
        other.bind(("", first.port(1)))
        other.listen()
        assert ensure_instance(tmp_path / "s").base_port != first.base_port


def test_no_ports_at_all(tmp_path: Path) -> None:
    with socket.socket() as other:
        other.bind(("", ensure_instance(tmp_path / "other").port(1)))
        other.listen()
        taken = other.getsockname()[1] // 200
        with pytest.raises(InstanceError, match="TCP ports"):
            ensure_instance(tmp_path / "s", choose=lambda low, high: taken)


def test_a_long_path_gets_a_short_directory_that_is_its_own(tmp_path: Path) -> None:
    deep = tmp_path / ("x" * 60)
    instance = ensure_instance(deep)
    try:
        assert len(str(instance.short_dir)) <= 37
        assert instance.short_dir.name == f"pumice-{mark_of(deep)}"
        assert instance.short_dir.stat().st_mode & 0o777 == 0o700
    finally:
        instance.short_dir.rmdir()


def test_a_directory_of_somebody_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    with pytest.raises(InstanceError, match="not a directory of ours"):
        ensure_private(tmp_path / "link")


def settings(state_dir: Path, **more: object) -> Settings:
    return Settings(state_dir=state_dir, **more)


def test_secrets_of_the_caller_do_not_reach_other_processes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PUMICE_DATABASE_URL", "postgresql://u:secret@h/db")
    monkeypatch.setenv("RAY_ADDRESS", "elsewhere:6379")
    instance = ensure_instance(tmp_path)
    found = head_environment.environment(settings(tmp_path), instance)
    assert "PUMICE_DATABASE_URL" not in found
    assert "RAY_ADDRESS" not in found
    assert found["PUMICE_STATE_DIR"] == str(tmp_path)
    assert found["RAY_AUTH_MODE"] == "token"
    assert found["PATH"] == os.environ["PATH"]


def test_on_loopback_ray_binds_to_loopback(tmp_path: Path) -> None:
    instance = ensure_instance(tmp_path)
    here, everywhere = settings(tmp_path), settings(tmp_path, listen="0.0.0.0")
    assert head_environment.environment(here, instance)["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] == "0"
    assert "--node-ip-address=127.0.0.1" in head_environment.head_arguments(here, instance)
    assert "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER" not in head_environment.environment(everywhere, instance)


def test_settings_survive_the_file(tmp_path: Path) -> None:
    before = settings(tmp_path, database_url="postgresql://u:secret@h/db", backends={"a": {"options": {"x": [1]}}})
    path = write_effective(before)
    assert load_effective(path) == before
    assert path.stat().st_mode & 0o777 == 0o600
