"""What `pumice join` refuses before it starts anything, and what the head's list of nodes means for it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from actors.names import HOST_LABEL
from actors.node_environment import VERSION_LABEL, version_label
from actors.ray_port import Node
from cluster.settings import Settings
from cluster.settings_file import write_effective
from serve_app.command import admission, node_file
from serve_app.command.admission import RefusedError
from serve_app.command.main import pumice
from serve_app.command.node_file import JoinedAs


@pytest.fixture
def token(tmp_path: Path) -> Path:
    path = tmp_path / "token"
    path.write_text("secret")
    path.chmod(0o600)
    return path


@pytest.fixture
def join(tmp_path: Path, token: Path) -> Callable[..., Result]:
    def run(**changes: str) -> Result:
        options = {"head": "192.0.2.1:20000", "token-file": str(token), "state-dir": str(tmp_path / "node"), **changes}
        # An address that is nobody's here: what passes all other checks ends at this one.
        options.setdefault("address", "192.0.2.9")
        return CliRunner().invoke(pumice, ["join", *(f"--{key}={value}" for key, value in options.items())])

    return run


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"head": "192.0.2.1"}, "is not ADDRESS:PORT"),
        ({"head": "192.0.2.1:0"}, "is not ADDRESS:PORT"),
        ({"head": "127.0.0.1:20000"}, "is this machine itself"),
        ({"labels": "disk"}, "'disk' is not KEY=VALUE"),
        ({"labels": "disk=a b"}, "label disk=a b: use letters"),
        ({"labels": "pumice.io/host=x"}, "Pumice and Ray set those"),
        ({"labels": "ray.io/availability-zone=x"}, "Pumice and Ray set those"),
        ({"host-name": "a@b"}, "use letters, digits"),
        ({"storage-subnet": "10.2"}, "storage_network.subnet: '10.2' is no subnet"),
        ({"storage-interface": "eth1", "storage-label": "nic"}, "interface and label are given; one of them chooses"),
        ({}, "192.0.2.9 is no address of this machine"),
    ],
)
def test_bad_input_is_refused_with_a_sentence(
    join: Callable[..., Result], tmp_path: Path, changes: dict[str, str], said: str
) -> None:
    result = join(**changes)
    assert (result.exit_code, result.stdout) == (2, "")
    assert said in result.stderr
    assert not (tmp_path / "node").exists()


@pytest.mark.parametrize(
    ("mode", "text", "said"),
    [(0o644, "f00dfeed", "others may read"), (0o600, " \n", "is empty"), (None, "", "not there")],
)
def test_a_bad_token_is_refused_and_never_shown(
    join: Callable[..., Result], token: Path, mode: int | None, text: str, said: str
) -> None:
    token.write_text(text)
    token.unlink() if mode is None else token.chmod(mode)
    result = join(address="127.0.0.1")
    assert result.exit_code == 2
    assert said in result.stderr
    assert "f00dfeed" not in result.output + result.stderr


def test_the_directory_of_a_head_is_refused(join: Callable[..., Result], tmp_path: Path) -> None:
    (tmp_path / "node").mkdir()
    write_effective(Settings(state_dir=tmp_path / "node"))
    result = join()
    assert result.exit_code == 2
    assert "is the head's of an instance" in result.stderr


def test_a_node_keeps_its_name_and_is_no_head(join: Callable[..., Result], tmp_path: Path) -> None:
    (tmp_path / "node" / "run").mkdir(parents=True)
    node_file.write(tmp_path / "node", JoinedAs("h1", "192.0.2.1:20000"))
    result = join(**{"host-name": "h2"})
    assert result.exit_code == 2
    assert "was begun as 'h1'" in result.stderr
    up = CliRunner().invoke(pumice, ["up", "--state-dir", str(tmp_path / "node")])
    assert up.exit_code == 2
    assert "a node of the cluster at 192.0.2.1:20000" in up.stderr
    status = CliRunner().invoke(pumice, ["status", "--state-dir", str(tmp_path / "node")])
    assert (status.exit_code, status.stdout.splitlines()[0]) == (1, "not ready: not running")


def node(host: str, *, alive: bool = True, version: str | None = None) -> Node:
    version = version or version_label()
    return Node(host, f"address of {host}", {HOST_LABEL: host, VERSION_LABEL: version}, alive)


def test_a_name_is_free_when_nobody_who_lives_has_it() -> None:
    assert admission.check([node("head"), node("h1", alive=False)], "h1")
    assert not admission.check([node("head"), node("h1")], "h1")


@pytest.mark.parametrize(
    ("nodes", "said"),
    [
        ([node("head", version="9.9")], "the cluster runs Pumice 9.9 and this machine has"),
        ([node("head", alive=False)], "none of a Pumice instance"),
        ([Node("x", "x", {}, alive=True)], "none of a Pumice instance"),
    ],
)
def test_another_version_and_another_kind_of_cluster_are_refused(nodes: list[Node], said: str) -> None:
    with pytest.raises(RefusedError, match=said):
        admission.check(nodes, "h1")


def test_an_earlier_life_is_waited_for_and_somebody_else_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(admission.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(admission.time, "sleep", lambda seconds: now.__setitem__(0, now[0] + seconds))
    admission.wait("head", "h1", lambda *_: [node("head"), node("h1", alive=now[0] < 5)])
    assert now[0] == 5
    with pytest.raises(RefusedError, match="'h1' is in the cluster already, at address of h1"):
        admission.wait("head", "h1", lambda *_: [node("head"), node("h1")])


def test_what_the_instance_says_of_storage_networks_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(admission.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(admission.time, "sleep", lambda seconds: now.__setitem__(0, now[0] + seconds))
    assert (
        admission.network("head", lambda *_: '{"interface":"eth1"}' if now[0] > 5 else None) == '{"interface":"eth1"}'
    )
    with pytest.raises(ConnectionError, match="its instance does not come up"):
        admission.network("head", lambda *_: None)
