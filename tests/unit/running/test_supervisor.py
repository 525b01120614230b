"""The supervisor on a machine that refuses it things. Head and launch are stand-ins; nothing is started."""

from __future__ import annotations

import errno
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from actors import processes
from actors.head import HeadError
from actors.instance import Instance, InstanceError
from cluster.settings import Settings
from serve_app.command import run_file, supervisor
from serve_app.command.output import begin_anew
from serve_app.command.part import StartError
from serve_app.command.run_file import Run, RunFile
from serve_app.command.supervisor import Stop, Supervisor

FULL = OSError(errno.ENOSPC, "No space left on device")


class Machine:
    """What happened, and what is to go wrong: `refuse[what]` is raised so many times when `what` is done."""

    def __init__(self) -> None:
        self.done: list[str] = []
        self.refuse: dict[str, list[Exception]] = {}
        self.raylet = self.gcs = self.conductor = False
        self.hung: list[str] = []
        self.now = 0.0
        self.jobs_kept = 0
        self.plan: list[Callable[[], None]] = []

    def does(self, what: str) -> None:
        if self.refuse.get(what):
            raise self.refuse[what].pop()
        self.done.append(what)

    def sleep(self, seconds: float) -> None:
        """Time passes; what the test planned happens, one thing a look. After the last, somebody stops it."""
        self.now += seconds
        if seconds == supervisor._LOOK_SECONDS:
            if not self.plan:
                raise Stop
            self.plan.pop(0)()


class Head:
    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self.environment: dict[str, str] = {}

    def start(self, log: Path) -> None:
        self._machine.does("start")
        self._machine.raylet = self._machine.gcs = True

    def restart_gcs(self, log: Path) -> None:
        self._machine.does("restart_gcs")
        self._machine.gcs = True

    def stop(self) -> None:
        self._machine.does("stop")

    def forget(self) -> None:
        self._machine.does("forget")

    def keep_jobs(self, log: Path) -> None:
        self._machine.jobs_kept += 1

    def wait_for_jobs(self) -> None:
        self._machine.jobs_kept += 1

    def raylet_lives(self) -> bool:
        return self._machine.raylet

    def gcs_lives(self) -> bool:
        return self._machine.gcs


class Part:
    def __init__(self, machine: Machine, names: tuple[str, ...]) -> None:
        self._machine, self._names = machine, names
        machine.does(f"begin {' '.join(names)}")

    def finish(self, log: Path, makes_sense: Callable[[], bool] = lambda: True) -> None:
        self._machine.does(" ".join(self._names))
        if not makes_sense():
            raise StartError("the Ray head died while the service was coming up")
        self._machine.conductor |= self._names[0] in ("serve", "actors")


class Hangs:
    """Nobody is hung but whom the test says; whoever is ended is then dead."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine

    def end(self, *, serving: bool) -> list[processes.Process]:
        hung, self._machine.hung = self._machine.hung, []
        for name in hung:
            self._machine.done.append(f"end {name}")
            setattr(self._machine, name, False)
        return [processes.Process(7, name, ()) for name in hung]


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Iterator[Machine]:
    one = Machine()
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    monkeypatch.setattr(supervisor, "Head", lambda *_: Head(one))
    monkeypatch.setattr(supervisor, "Part", lambda names, *_: Part(one, names))
    monkeypatch.setattr(supervisor, "Hangs", lambda *_, **__: Hangs(one))
    monkeypatch.setattr(supervisor, "release", lambda _: one.does("release") or [])
    monkeypatch.setattr(supervisor.time, "sleep", one.sleep)
    monkeypatch.setattr(supervisor.time, "monotonic", lambda: one.now)
    monkeypatch.setattr(processes, "adopt_orphans", lambda: None)
    monkeypatch.setattr(processes, "reap", lambda: one.does("reap"))
    conductor = processes.Process(1, "ray::ConductorActor.wake", ())
    monkeypatch.setattr(processes, "of_instance", lambda _: [conductor] if one.conductor else [])
    yield one
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture
def run(tmp_path: Path) -> RunFile:
    file = RunFile(tmp_path)
    (tmp_path / "run").mkdir()
    (tmp_path / "logs").mkdir()
    file.write(Run(1, "1", "http://h", "h:1", None))
    return file


@pytest.fixture
def one(machine: Machine, run: RunFile, tmp_path: Path) -> Supervisor:
    return Supervisor(Settings(state_dir=tmp_path), Instance(tmp_path, 20_000, tmp_path / "ray"), run, lambda _: None)


def state(run: RunFile) -> tuple[str, bool]:
    found = run.read()
    assert found is not None
    return found.state, found.ready


COME_UP = ["forget", "begin prepare expire", "start", "prepare expire", "begin serve", "serve"]
COME_UP_AGAIN = ["forget", "begin expire", "start", "expire", "begin serve", "serve"]


def without_reap(machine: Machine) -> list[str]:
    return [what for what in machine.done if what != "reap"]


def test_it_comes_up_and_goes_down(machine: Machine, one: Supervisor, run: RunFile) -> None:
    seen: list[tuple[str, bool]] = []
    machine.plan = [lambda: seen.append(state(run))]
    announced: list[str] = []
    assert one.run(lambda: announced.append("x")) == []
    assert without_reap(machine) == [*COME_UP, "release"]
    assert (seen, announced) == ([("ready", True)], ["x"])
    assert machine.jobs_kept == 1 + len([what for what in machine.done if what == "reap"])
    assert run.read() is None


@pytest.mark.parametrize("trouble", [FULL, HeadError("no head"), InstanceError("not ours")])
@pytest.mark.parametrize("what", ["start", "begin serve"])
def test_a_first_start_that_is_refused_leaves_nothing(
    machine: Machine, one: Supervisor, trouble: Exception, what: str
) -> None:
    machine.refuse = {what: [trouble]}
    with pytest.raises(StartError, match=str(trouble.args[-1])):
        one.run(lambda: None)
    assert machine.done[-1] == "release"


def test_a_full_disk_and_a_lost_terminal_do_not_hinder_taking_down(
    machine: Machine, run: RunFile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise FULL

    monkeypatch.setattr(run_file, "write_private", refuse)
    instance = Instance(tmp_path, 20_000, tmp_path / "ray")
    assert Supervisor(Settings(state_dir=tmp_path), instance, run, refuse).run(refuse) == []
    assert without_reap(machine) == [*COME_UP, "release"]


def test_what_was_not_said_on_a_full_disk_is_said_later(
    machine: Machine, one: Supervisor, run: RunFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    write, seen = run_file.write_private, []

    def refuse(*_: object) -> None:
        raise FULL

    monkeypatch.setattr(run_file, "write_private", refuse)
    machine.plan = [
        lambda: seen.append(state(run)),
        lambda: monkeypatch.setattr(run_file, "write_private", write),
        lambda: seen.append(state(run)),
    ]
    one.run(lambda: None)
    assert seen == [("starting", False), ("ready", True)]


@pytest.mark.parametrize("trouble", [FULL, HeadError("no"), InstanceError("not ours"), StartError("no")])
@pytest.mark.parametrize(
    ("what", "times"), [("start", 2), ("begin expire", 2), ("serve", 2), ("expire", 1), ("stop", 2)]
)
def test_a_dead_head_is_brought_back_whatever_refuses_at_first(
    machine: Machine, one: Supervisor, run: RunFile, trouble: Exception, what: str, times: int
) -> None:
    seen: list[tuple[str, bool]] = []

    def die() -> None:
        machine.done.clear()
        machine.refuse = {what: [trouble] * times}
        machine.raylet = machine.gcs = False

    machine.plan = [die, *[lambda: None] * 3, lambda: seen.append(state(run))]
    one.run(lambda: None)
    assert machine.refuse == {what: []}
    assert "serve" in machine.done
    assert machine.done[-1] == "release"
    assert seen == [("ready", True)]


def test_a_dead_gcs_is_brought_back_whatever_refuses_at_first(machine: Machine, one: Supervisor) -> None:
    def die() -> None:
        machine.done.clear()
        machine.refuse = {"restart_gcs": [FULL, FULL], "reap": [FULL]}
        machine.gcs = False

    machine.plan = [die, *[lambda: None] * 4]
    one.run(lambda: None)
    assert without_reap(machine) == ["restart_gcs", "release"]


def test_a_gcs_that_keeps_dying_is_not_all_that_is_started_again(machine: Machine, one: Supervisor) -> None:
    def die() -> None:
        machine.gcs = False

    machine.plan = [machine.done.clear, *[die] * (supervisor._GCS_TRIES + 1), lambda: None]
    one.run(lambda: None)
    assert without_reap(machine) == [*["restart_gcs"] * supervisor._GCS_TRIES, "stop", *COME_UP_AGAIN, "release"]


def test_a_gcs_that_dies_now_and_then_is_started_again_alone(machine: Machine, one: Supervisor) -> None:
    def die() -> None:
        machine.gcs = False

    calm = [lambda: None] * int(supervisor._GCS_SECONDS / supervisor._LOOK_SECONDS + 1)
    machine.plan = [machine.done.clear, *[die, *calm] * (supervisor._GCS_TRIES + 2)]
    one.run(lambda: None)
    assert without_reap(machine) == [*["restart_gcs"] * (supervisor._GCS_TRIES + 2), "release"]


@pytest.mark.parametrize(("who", "then"), [("raylet", ["stop", *COME_UP_AGAIN]), ("gcs", ["restart_gcs"])])
def test_who_is_hung_is_ended_and_mended_as_a_dead_one(
    machine: Machine, one: Supervisor, run: RunFile, who: str, then: list[str]
) -> None:
    seen: list[tuple[str, bool]] = []

    def hang() -> None:
        machine.done.clear()
        machine.hung = [who]

    machine.plan = [hang, *[lambda: None] * 2, lambda: seen.append(state(run))]
    one.run(lambda: None)
    assert without_reap(machine) == [f"end {who}", *then, "release"]
    assert seen == [("ready", True)]


def test_a_head_that_dies_while_the_service_comes_up_is_not_waited_for(machine: Machine, one: Supervisor) -> None:
    deaths = ["first", "second"]

    def die_again(what: str) -> None:
        if what == "begin serve" and deaths:
            machine.done.append(deaths.pop(0))
            machine.raylet = False

    def die() -> None:
        machine.done.clear()
        machine.raylet = False
        does = machine.does

        def watched(what: str) -> None:
            does(what)
            die_again(what)

        machine.does = watched  # type: ignore[method-assign]

    machine.plan = [die, *[lambda: None] * 4]
    one.run(lambda: None)
    begun = [what for what in machine.done if what in ("start", "begin serve", "first", "second", "serve")]
    assert begun == [
        *["start", "begin serve", "first", "serve"],
        *["start", "begin serve", "second", "serve"],
        *COME_UP[2:3],
        *COME_UP[4:],
    ]


def test_a_conductor_that_is_missing_is_started_again_after_a_while(machine: Machine, one: Supervisor) -> None:
    def kill() -> None:
        machine.done.clear()
        machine.conductor = False

    looks = int(supervisor._CONDUCTOR_SECONDS / supervisor._LOOK_SECONDS)
    machine.plan = [kill, *[lambda: None] * (looks // 2), lambda: machine.done.append("half"), *[lambda: None] * looks]
    one.run(lambda: None)
    assert without_reap(machine) == ["half", "begin actors", "actors", "release"]


def test_what_is_printed_keeps_one_old_file(tmp_path: Path) -> None:
    path = tmp_path / "ray.log"
    begin_anew(path)
    for text in ("one", "two", "three"):
        path.write_text(text)
        begin_anew(path)
    assert sorted((file.name, file.read_text()) for file in tmp_path.iterdir()) == [("ray.log.1", "three")]
