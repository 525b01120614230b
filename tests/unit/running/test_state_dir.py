"""Directories that are none of ours stay as they are, and a host keeps its name."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from cluster.settings import Settings, load
from cluster.settings_file import write_effective
from serve_app.command import up as up_module
from serve_app.command.main import pumice
from serve_app.command.release import own_mounts
from serve_app.command.state_dir import ensure_state_dir, is_instance, with_remembered_host


@pytest.fixture(autouse=True)
def no_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is started here, and this person's variables play no part."""
    for key in [key for key in os.environ if key.startswith("PUMICE_")]:
        monkeypatch.delenv(key)

    def refuse(*_: object) -> None:
        raise AssertionError("this must have been refused before")

    monkeypatch.setattr(up_module, "_make_room", refuse)
    monkeypatch.setattr(up_module, "_detach", refuse)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A directory of somebody's, with rights of its own."""
    (tmp_path / "home").mkdir(mode=0o755)
    (tmp_path / "home" / "letter").write_text("dear")
    (tmp_path / "home" / "run" / "lock").mkdir(parents=True)
    (tmp_path / "home" / "settings.json").write_text('{"editor.fontSize": 12}')
    return tmp_path / "home"


def run(*arguments: object, **variables: str) -> Result:
    return CliRunner().invoke(pumice, [str(argument) for argument in arguments], env=variables)


@pytest.mark.parametrize("command", [["up"], ["up", "--detach"], ["db", "upgrade"], ["down"]])
def test_a_directory_of_something_else_is_refused_and_untouched(home: Path, command: list[str]) -> None:
    before = sorted(home.iterdir())
    done = run(*command, "--state-dir", home)
    assert done.exit_code == 2
    assert f"{home} is not empty and no instance's directory (there is letter, run, settings.json)" in done.stderr
    assert stat.S_IMODE(home.stat().st_mode) == 0o755
    assert sorted(home.iterdir()) == before


def test_a_file_is_refused(home: Path) -> None:
    done = run("up", PUMICE_STATE_DIR=str(home / "letter"))
    assert done.exit_code == 2
    assert "is not a directory" in done.stderr


@pytest.mark.parametrize("inside", [[], ["lost+found"]])
def test_an_empty_directory_becomes_an_instances(tmp_path: Path, inside: list[str]) -> None:
    for name in inside:
        (tmp_path / name).mkdir()
    assert not is_instance(tmp_path)
    ensure_state_dir(tmp_path)
    assert is_instance(tmp_path)
    assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o700
    ensure_state_dir(tmp_path)


@pytest.mark.parametrize("directory", ["absent", "empty"])
def test_down_where_nothing_is(tmp_path: Path, directory: str) -> None:
    (tmp_path / "empty").mkdir()
    done = run("down", "--state-dir", tmp_path / directory)
    assert (done.exit_code, done.stdout) == (0, f"nothing runs in {tmp_path / directory}\n")
    assert not (tmp_path / "absent").exists()


def begun(directory: Path, name: str) -> None:
    ensure_state_dir(directory)
    write_effective(Settings(state_dir=directory, host_name=name))


def test_a_name_that_nobody_gives_stays(tmp_path: Path) -> None:
    begun(tmp_path, "old")
    settings = load({"state_dir": tmp_path})
    assert settings.host_name != "old"
    assert with_remembered_host(settings).host_name == "old"
    assert with_remembered_host(load({"state_dir": tmp_path, "host_name": "old"})).host_name == "old"


def test_a_new_instance_has_the_name_that_is_given(tmp_path: Path) -> None:
    assert with_remembered_host(load({"state_dir": tmp_path, "host_name": "new"})).host_name == "new"


def test_another_name_is_refused_with_the_reason(tmp_path: Path) -> None:
    begun(tmp_path, "old")
    done = run("up", "--state-dir", tmp_path, PUMICE_HOST_NAME="new")
    assert done.exit_code == 2
    assert "host_name" in done.stderr
    assert "'old', and its volumes are recorded under that name, so it cannot become 'new'" in done.stderr
    assert json.loads((tmp_path / "settings.json").read_text())["host_name"] == "old"


@pytest.mark.parametrize(
    ("backend", "named"),
    [
        ({"driver": "no-such"}, ["backends.fast", "no-such", "memory", "reflink"]),
        ({"driver": "memory", "options": {"sice": 1}}, ["backends.fast", "'sice': unknown option", "capacity_gib"]),
        ({"driver": "reflink", "options": {"image_size_gib": 0}}, ["backends.fast", "image_size_gib"]),
    ],
)
def test_a_backend_that_cannot_be_made_is_refused_by_name(
    tmp_path: Path, backend: dict[str, object], named: list[str]
) -> None:
    directory = tmp_path / "state"
    done = run("up", "--state-dir", directory, PUMICE_BACKENDS=json.dumps({"fast": backend, "m": {"driver": "memory"}}))
    assert done.exit_code == 2
    assert [word for word in named if word not in done.stderr] == []
    assert "Traceback" not in done.stderr
    assert not directory.exists()


def test_only_images_of_the_instances_pools_are_ours_to_unmount(tmp_path: Path) -> None:
    state = tmp_path / "state dir"
    (state / "pools").mkdir(parents=True)
    escaped = str(state).replace(" ", "\\040")
    files = {
        "/dev/loop0": f"{state}/pools/a.img",
        "/dev/loop1": f"{state}/pools/b.img (deleted)",
        "/dev/loop2": "/home/somebody.img",
    }
    table = "\n".join(
        f"36 35 98:0 / {place} rw,noatime shared:1 - xfs {source} rw"
        for place, source in [
            ("/", "/dev/vda"),
            (f"{escaped}", "/dev/vdb"),
            (f"{escaped}/pools/a", "/dev/loop0"),
            (f"{escaped}/pools/a/deep", "tmpfs"),
            (f"{escaped}/pools/nested/b", "/dev/loop1"),
            (f"{escaped}/pools/c", "/dev/loop2"),
            ("/mnt/looked-at", "/dev/loop0"),
        ]
    )
    found = own_mounts(state, table=lambda: table, backing_file=files.get)
    assert found == [state / "pools" / "nested" / "b", state / "pools" / "a"]
