"""What keeps actors from being dead for good: constructors that do not raise, and a keeper that looks every time."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from actors import fleet, ray_port
from actors.conductor import ConductorActor
from actors.liveness import EXIT_CODE, PAUSE_SECONDS, or_end
from actors.names import CONDUCTOR, SCHEDULER, volume_actor
from actors.scheduler import SchedulerActor
from actors.volume import VolumeActor
from cluster.settings import BackendSettings, Settings


class EndedError(BaseException):
    """Instead of the end of this process."""


@pytest.fixture
def ends(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """What was waited and the exit code, instead of both."""
    seen: list[float] = []

    def end(code: int) -> None:
        seen.append(code)
        raise EndedError

    monkeypatch.setattr(time, "sleep", seen.append)
    monkeypatch.setattr(os, "_exit", end)
    return seen


def test_a_constructor_that_fails_ends_the_process_after_a_pause(ends: list[float]) -> None:
    with pytest.raises(EndedError), or_end("x"):
        raise OSError("disk")
    assert ends == [PAUSE_SECONDS, EXIT_CODE]


def test_a_constructor_that_works_ends_nothing(ends: list[float]) -> None:
    with or_end("x"):
        pass
    assert ends == []


@pytest.mark.parametrize("cls", [ConductorActor, SchedulerActor])
async def test_unreadable_settings_end_the_actor(ends: list[float], tmp_path: Path, cls: type) -> None:
    actor = cls.__new__(cls)
    with pytest.raises(EndedError):
        await actor.__init__(str(tmp_path / "settings.json"))
    assert ends[-1] == EXIT_CODE


async def test_a_driver_that_cannot_be_made_ends_the_actor(
    ends: list[float], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray_port, "own_labels", dict)
    monkeypatch.setenv("PUMICE_STATE_DIR", str(tmp_path))
    actor = VolumeActor.__new__(VolumeActor)
    with pytest.raises(EndedError):
        await actor.__init__("h", "b", BackendSettings(driver="no-such"), "nova", 3.0)
    assert ends[-1] == EXIT_CODE


class Cluster:
    """The part of Ray that the fleet asks."""

    def __init__(self) -> None:
        self.names: set[str] = set()
        self.hosts = ["a", "b"]
        self.labels = {fleet.VERSION_LABEL: fleet.version_label()}

    def nodes(self) -> list[ray_port.Node]:
        return [ray_port.Node(host, host, {**self.labels, fleet.HOST_LABEL: host}, alive=True) for host in self.hosts]

    def ensure_actor(self, cls: type, name: str, **_: object) -> None:
        self.names.add(name)


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Cluster:
    one = Cluster()
    monkeypatch.setattr(ray_port, "actor_names", lambda: set(one.names))
    monkeypatch.setattr(ray_port, "nodes", one.nodes)
    monkeypatch.setattr(ray_port, "ensure_actor", one.ensure_actor)
    return one


@pytest.fixture
def round_of(tmp_path: Path) -> Callable[[], list[str]]:
    settings = Settings(state_dir=tmp_path, host_name="a", backends={"m": BackendSettings(driver="memory")})
    return lambda: fleet.ensure_wanted(settings)


def test_the_fleet_starts_what_is_missing_and_only_that(cluster: Cluster, round_of: Callable[[], list[str]]) -> None:
    everybody = [SCHEDULER, volume_actor("a@m"), volume_actor("b@m")]
    assert round_of() == everybody
    assert round_of() == []
    for name in everybody:
        cluster.names.remove(name)
        assert round_of() == [name]
    assert CONDUCTOR not in cluster.names


def test_a_node_that_comes_later_gets_its_actors(cluster: Cluster, round_of: Callable[[], list[str]]) -> None:
    round_of()
    cluster.hosts.append("c")
    assert round_of() == [volume_actor("c@m")]


@pytest.mark.parametrize("labels", [{}, {fleet.VERSION_LABEL: "0.0.9"}])
def test_a_node_of_another_version_gets_none(
    cluster: Cluster, round_of: Callable[[], list[str]], labels: dict[str, str]
) -> None:
    cluster.labels = labels
    assert round_of() == [SCHEDULER]


async def test_a_volume_actor_of_earlier_settings_is_ended_once(
    tmp_path: Path, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    def settings(gib: int) -> Settings:
        backend = BackendSettings(driver="memory", options={"capacity_gib": gib})
        return Settings(state_dir=tmp_path, host_name="a", backends={"m": backend})

    made_for = {volume_actor("a@m"): settings(1), volume_actor("b@m"): settings(2)}
    asked: list[str] = []
    ended: list[str] = []

    async def call(name: str, method: str, *, timeout_seconds: float) -> object:
        asked.append(name)
        if name in ended:
            raise ray_port.NotSentError("gone")
        chosen = made_for[name]
        return chosen.backends["m"], chosen.availability_zone, chosen.timing.heartbeat

    monkeypatch.setattr(ray_port, "call", call)
    monkeypatch.setattr(ray_port, "end_actor", ended.append)
    current: set[str] = set()
    await fleet.end_outdated(settings(2), current)
    assert (ended, current) == ([volume_actor("a@m")], {volume_actor("b@m")})
    asked.clear()
    await fleet.end_outdated(settings(2), current)
    assert (asked, ended) == ([volume_actor("a@m")], [volume_actor("a@m")])
