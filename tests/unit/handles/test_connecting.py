"""Which cluster `connect` joins, and what it says when it cannot. Nothing is joined here."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from actors import ray_port
from actors.handles import NotAllowedError, UnreachableError, connect

_RAY = ("RAY_ADDRESS", "RAY_AUTH_TOKEN_PATH", "RAY_AUTH_MODE", "PUMICE_STATE_DIR", ray_port.JOB_VARIABLE)


@pytest.fixture
def joined(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[tuple[str, Path | None]]:
    """The clusters that were joined: address and file of the token."""
    seen: list[tuple[str, Path | None]] = []

    def join(address: str, *, token: Path | None = None, shows_output: bool = False) -> None:
        assert shows_output, "what a user's tasks print is for the user"
        seen.append((address, token))

    for name in _RAY:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(ray_port, "connect", join)
    return seen


def instance(directory: Path, *, token: bool = True) -> Path:
    """The state directory of an instance whose head is at head:1."""
    for name in ("run", "secrets"):
        (directory / name).mkdir(parents=True)
    (directory / "run" / "up.json").write_text(json.dumps({"ray_address": "head:1"}))
    if token:
        (directory / "secrets" / "ray.token").write_text("secret")
    return directory


def test_a_state_directory_says_where_and_how(joined: list[tuple[str, Path | None]], tmp_path: Path) -> None:
    directory = instance(tmp_path / "state")
    connect(directory)
    assert joined == [("head:1", directory / "secrets" / "ray.token")]


def test_the_variables_come_after_the_arguments(
    joined: list[tuple[str, Path | None]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = instance(tmp_path / "state")
    monkeypatch.setenv("RAY_ADDRESS", "by-variable:1")
    connect(address="given:1")
    connect()
    monkeypatch.setenv("PUMICE_STATE_DIR", str(directory))
    connect()
    connect(address="given:2")
    assert [address for address, _ in joined] == ["given:1", "by-variable:1", "head:1", "given:2"]


def test_a_process_of_a_cluster_reaches_no_other(
    joined: list[tuple[str, Path | None]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own, other = instance(tmp_path / "own"), instance(tmp_path / "other")
    (other / "run" / "up.json").write_text(json.dumps({"ray_address": "elsewhere:1"}))
    monkeypatch.setattr(ray_port, "connected", lambda: True)
    monkeypatch.setattr(ray_port, "own_cluster", lambda: "head:1")
    connect()
    connect(own)
    connect(address="head:1")
    connect(tmp_path / "of-the-head-alone")
    for arguments in ({"state_dir": other}, {"address": "elsewhere:1"}):
        with pytest.raises(NotAllowedError, match="part of the cluster at head:1, and elsewhere:1 is another"):
            connect(**arguments)
    assert joined == []


def test_the_default_directory_is_the_last(joined: list[tuple[str, Path | None]], tmp_path: Path) -> None:
    instance(tmp_path / "home" / "pumice")
    connect()
    assert joined[0][0] == "head:1"


def test_a_job_belongs_to_its_cluster_wherever_its_driver_runs(
    joined: list[tuple[str, Path | None]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PUMICE_STATE_DIR", str(tmp_path / "a-node-that-has-joined"))
    monkeypatch.setenv("RAY_ADDRESS", "of-the-job:1")
    monkeypatch.setenv(ray_port.JOB_VARIABLE, "{}")
    connect()
    assert joined == [("of-the-job:1", None)]


def test_nothing_runs_there(joined: list[tuple[str, Path | None]], tmp_path: Path) -> None:
    with pytest.raises(UnreachableError, match=r"no instance runs in .*; start one with `pumice up`"):
        connect(tmp_path)
    assert joined == []


def test_without_the_token_nobody_gets_in(
    joined: list[tuple[str, Path | None]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = instance(tmp_path / "state", token=False)
    with pytest.raises(NotAllowedError, match=r"ray\.token cannot be read.*run this as the user.*endpoint="):
        connect(directory)
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", "/a/copy")
    connect(directory)
    assert joined == [("head:1", None)]


def test_the_job_servers_url_is_no_address(
    joined: list[tuple[str, Path | None]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "http://127.0.0.1:8265")
    with pytest.raises(UnreachableError, match=r"is a URL.*what `pumice status` shows as ray_address"):
        connect()
    assert joined == []


@pytest.mark.parametrize(("by", "advice"), [("directory", "`pumice up`"), ("address", "RAY_AUTH_TOKEN_PATH")])
def test_who_does_not_get_in_is_told_what_to_do(
    joined: list[tuple[str, Path | None]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, by: str, advice: str
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise ConnectionError("Ray at head:1 cannot be joined: no answer")

    directory = instance(tmp_path / "state")
    monkeypatch.setattr(ray_port, "connect", refuse)
    with pytest.raises(UnreachableError, match=f"no answer; .*{advice}"):
        connect(**({"state_dir": directory} if by == "directory" else {"address": "head:1"}))


def test_over_http_a_user_is_needed() -> None:
    with pytest.raises(NotAllowedError, match="give username, password and project_name"):
        connect(endpoint="http://h:8776")
