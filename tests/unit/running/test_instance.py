from __future__ import annotations

import os
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from actors import head_environment
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


def test_a_long_path_gets_a_short_directory_that_is_its_own(root: Path) -> None:
    deep = root / ("x" * 60)
    instance = ensure_instance(deep)
    try:
        assert len(str(instance.short_dir)) <= 37
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
    assert found["PATH"] == os.environ["PATH"]


def test_on_loopback_ray_binds_to_loopback(root: Path) -> None:
    instance = ensure_instance(root)
    here, everywhere = settings(root), settings(root, listen="0.0.0.0", public_url="http://far")
    assert head_environment.environment(here, instance)["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] == "0"
    assert "--node-ip-address=127.0.0.1" in head_environment.head_arguments(here, instance)
    assert "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER" not in head_environment.environment(everywhere, instance)


def test_settings_survive_the_file(root: Path) -> None:
    before = settings(root, database_url="postgresql+psycopg://u:secret@h/db", backends={"a": {"options": {"x": [1]}}})
    path = write_effective(before)
    assert load_effective(path) == before
    assert path.stat().st_mode & 0o777 == 0o600
