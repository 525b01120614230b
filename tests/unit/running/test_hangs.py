"""Hung processes are told from working ones: by beats, by a server's greeting, by the API's answers."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from actors import hangs, liveness
from actors.hangs import BORN_SECONDS, HUNG_SECONDS, LOOK_SECONDS, Hangs, Patience, greets_http2, http_status
from actors.instance import Instance
from actors.liveness import beats
from actors.node_environment import GCS
from actors.processes import MARK


class Clock:
    """Seconds, as the test says."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@contextmanager
def listening(answer: bytes | None) -> Iterator[int]:
    """A port where every connection gets `answer`; None: it is taken by the kernel and that is all."""

    def serve() -> None:
        with suppress(OSError):
            while True:
                connection, _ = server.accept()
                with connection:
                    connection.recv(4096)
                    connection.sendall(answer or b"")

    with socket.create_server(("127.0.0.1", 0)) as server:
        if answer is not None:
            threading.Thread(target=serve, daemon=True).start()
        yield server.getsockname()[1]
        server.shutdown(socket.SHUT_RDWR)


@contextmanager
def process(instance: Instance, name: str) -> Iterator[int]:
    """A process of the instance that calls itself so, and does nothing."""
    environment = {**os.environ, MARK: instance.mark}
    child = subprocess.Popen([name, "600"], executable="/bin/sleep", env=environment)
    try:
        yield child.pid
    finally:
        child.kill()
        child.wait()


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody here is slow: who does not answer never will."""
    monkeypatch.setattr(hangs, "_PROBE_SECONDS", 0.1)
    monkeypatch.setattr(hangs, "_ANSWER_SECONDS", 0.1)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def instance(tmp_path: Path) -> Instance:
    return Instance(tmp_path, 20_000, tmp_path)


def pass_by(watch: Hangs, clock: Clock, seconds: float, *, serving: bool = False) -> set[str]:
    """Look every two seconds for so long; the names of those that are to be killed at one of the looks."""
    found: set[str] = set()
    for _ in range(round(seconds / LOOK_SECONDS)):
        clock.now += LOOK_SECONDS
        found |= {one.name for one in watch.find(serving=serving)}
    return found


def beat(instance: Instance, pid: int, at: int) -> None:
    path = instance.state_dir / "run" / "beats" / str(pid)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    os.utime(path, ns=(at, at))


def test_silence_counts_from_the_last_new_sign(clock: Clock) -> None:
    patience = Patience(clock)
    assert patience.silent("a", 1) == 0
    clock.now += 5
    assert patience.silent("a", 1) == 5
    assert patience.silent("a", 2) == 0
    assert patience.silent("b", 1) == 0
    clock.now += 5
    patience.forget()
    assert patience.silent("a", 2) == 0


def test_an_actor_that_stops_beating_is_hung(instance: Instance, clock: Clock) -> None:
    watch = Hangs(instance, "127.0.0.1", clock=clock)
    with process(instance, "ray::ConductorActor") as pid:
        for at in range(20):
            beat(instance, pid, at)
            assert pass_by(watch, clock, LOOK_SECONDS) == set()
        assert pass_by(watch, clock, HUNG_SECONDS - 2 * LOOK_SECONDS) == set()
        assert pass_by(watch, clock, 3 * LOOK_SECONDS) == {"ray::ConductorActor"}


def test_an_actor_that_is_being_made_has_more_time(instance: Instance, clock: Clock) -> None:
    watch = Hangs(instance, "127.0.0.1", clock=clock)
    with process(instance, "ray::VolumeActor"):
        assert pass_by(watch, clock, BORN_SECONDS - 2 * LOOK_SECONDS) == set()
        assert pass_by(watch, clock, 4 * LOOK_SECONDS) == {"ray::VolumeActor"}


def test_who_was_held_up_itself_blames_nobody(instance: Instance, clock: Clock) -> None:
    watch = Hangs(instance, "127.0.0.1", clock=clock)
    with process(instance, "ray::SchedulerActor") as pid:
        beat(instance, pid, 1)
        assert pass_by(watch, clock, HUNG_SECONDS - 2 * LOOK_SECONDS) == set()
        clock.now += 3600
        assert pass_by(watch, clock, HUNG_SECONDS - 2 * LOOK_SECONDS) == set()


def test_the_hung_are_killed(instance: Instance, clock: Clock) -> None:
    watch = Hangs(instance, "127.0.0.1", clock=clock)
    with process(instance, "ray::SchedulerActor") as pid:
        beat(instance, pid, 1)
        os.kill(pid, signal.SIGSTOP)
        for _ in range(20):
            clock.now += LOOK_SECONDS
            if watch.end(serving=False):
                break
        assert os.waitpid(pid, 0)[1] == signal.SIGKILL


def test_whatever_is_stopped_for_long_is_hung(instance: Instance, clock: Clock) -> None:
    watch = Hangs(instance, "127.0.0.1", clock=clock)
    with process(instance, "ray::ServeController") as pid:
        assert pass_by(watch, clock, 2 * HUNG_SECONDS) == set()
        os.kill(pid, signal.SIGSTOP)
        os.waitpid(pid, os.WUNTRACED)
        assert pass_by(watch, clock, HUNG_SECONDS - 2 * LOOK_SECONDS) == set()
        os.kill(pid, signal.SIGCONT)
        os.waitpid(pid, os.WCONTINUED)
        assert pass_by(watch, clock, HUNG_SECONDS - 2 * LOOK_SECONDS) == set(), "it went on"
        os.kill(pid, signal.SIGSTOP)
        os.waitpid(pid, os.WUNTRACED)
        assert pass_by(watch, clock, HUNG_SECONDS + 2 * LOOK_SECONDS) == {"ray::ServeController"}


def test_files_of_the_dead_go(instance: Instance) -> None:
    beat(instance, 1, 5)
    beat(instance, 2, 7)
    assert beats(instance.state_dir, {2}) == {2: 7}
    assert [path.name for path in (instance.state_dir / "run" / "beats").iterdir()] == ["2"]


def test_a_daemon_that_does_not_greet_is_hung(tmp_path: Path, clock: Clock) -> None:
    for answer, hung in ((b"\0\0\0\4\0\0\0\0\0", set()), (None, {"gcs_server"})):
        with listening(answer) as port:
            instance = Instance(tmp_path, port - GCS, tmp_path)
            watch = Hangs(instance, "127.0.0.1", clock=clock)
            hangs_for = HUNG_SECONDS + 3 * LOOK_SECONDS
            with process(instance, "gcs_server"):
                assert pass_by(watch, clock, hangs_for) == hung


def test_an_ingress_that_does_not_answer_is_hung(instance: Instance, clock: Clock) -> None:
    with listening(None) as port, process(instance, "haproxy"), process(instance, "ray::ServeReplica:pumice:api"):
        watch = Hangs(instance, "127.0.0.1", port, clock)
        assert pass_by(watch, clock, HUNG_SECONDS + 2 * LOOK_SECONDS) == set(), "it need not answer"
        assert pass_by(watch, clock, HUNG_SECONDS + 2 * LOOK_SECONDS, serving=True) == {"haproxy"}
        assert pass_by(watch, clock, 2 * HUNG_SECONDS - 2 * LOOK_SECONDS, serving=True) == set(), "it is coming up"


def test_an_api_that_says_it_is_not_there_has_more_time_and_then_all_of_serve_goes(
    instance: Instance, clock: Clock
) -> None:
    with (
        listening(b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n") as port,
        process(instance, "haproxy"),
        process(instance, "ray::ServeReplica:pumice:api"),
    ):
        watch = Hangs(instance, "127.0.0.1", port, clock)
        assert pass_by(watch, clock, 4 * HUNG_SECONDS, serving=True) == set(), "a Serve that comes up says 503"
        assert pass_by(watch, clock, 3 * LOOK_SECONDS, serving=True) == {"haproxy", "ray::ServeReplica:pumice:api"}
        assert pass_by(watch, clock, 8 * HUNG_SECONDS - 2 * LOOK_SECONDS, serving=True) == set()


def test_on_a_disk_that_takes_no_beats_nobody_is_blamed(instance: Instance, clock: Clock) -> None:
    watch = Hangs(instance, "127.0.0.1", clock=clock)
    with process(instance, "ray::VolumeActor") as pid:
        beat(instance, pid, 1)
        folder = instance.state_dir / "run" / "beats"
        folder.rename(folder.with_name("gone"))
        folder.write_text("no directory, so no file can be touched in it")
        assert pass_by(watch, clock, 4 * BORN_SECONDS) == set()


def test_an_actor_that_is_never_made_has_more_time_at_each_try(instance: Instance, clock: Clock) -> None:
    watch = Hangs(instance, "127.0.0.1", clock=clock)
    for times in (1, 2, 4):
        with process(instance, "ray::VolumeActor"):
            assert pass_by(watch, clock, times * BORN_SECONDS - 2 * LOOK_SECONDS) == set()
            assert pass_by(watch, clock, 4 * LOOK_SECONDS) == {"ray::VolumeActor"}


def test_the_number_of_a_dead_process_says_nothing_of_its_next_bearer(clock: Clock) -> None:
    patience = Patience(clock)
    patience.silent(("stopped", 7), None)
    clock.now += 100
    patience.keep({8})
    assert patience.silent(("stopped", 7), None) == 0


def test_an_ingress_that_answers_is_left_alone(instance: Instance, clock: Clock) -> None:
    with (
        listening(b"HTTP/1.1 300 Multiple Choices\r\nContent-Length: 0\r\n\r\n") as port,
        process(instance, "haproxy"),
    ):
        assert pass_by(Hangs(instance, "127.0.0.1", port, clock), clock, 60, serving=True) == set()


def test_probes_tell_a_port_that_is_taken_from_one_that_answers() -> None:
    with listening(None) as port:
        assert not greets_http2("127.0.0.1", port)
        assert http_status("127.0.0.1", port) is None
    assert not greets_http2("127.0.0.1", port), "nobody listens any more"
    assert http_status("127.0.0.1", port) is None


async def test_an_actor_beats_for_as_long_as_its_loop_turns(
    instance: Instance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(liveness, "BEAT_SECONDS", 0.01)
    beating = asyncio.create_task(liveness.beat(instance.state_dir))
    seen: set[int] = set()
    async with asyncio.timeout(30):
        while len(seen) < 3:
            seen |= set(beats(instance.state_dir, {os.getpid()}).values())
            await asyncio.sleep(0.01)
    beating.cancel()


async def test_a_beat_that_the_disk_refuses_ends_nothing(instance: Instance, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(liveness, "BEAT_SECONDS", 0.01)
    place = instance.state_dir / "run"
    place.write_text("in the way")
    beating = asyncio.create_task(liveness.beat(instance.state_dir))
    await asyncio.sleep(0.05)
    assert not beating.done()
    place.unlink()
    async with asyncio.timeout(30):
        while not beats(instance.state_dir, {os.getpid()}):
            await asyncio.sleep(0.01)
    beating.cancel()
