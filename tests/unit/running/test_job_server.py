"""The job server is started from Ray's own command line and again when it has died or hangs. The server is a stand-in:
a script of the same name, which answers for as long as its file `answers` is there."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from actors import job_server, processes
from actors.head_environment import DASHBOARD
from actors.instance import Instance
from actors.job_server import JobServer, jobs_alone
from actors.processes import MARK

_SCRIPT = """
import http.server, os, pathlib, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        answers = pathlib.Path(__file__).with_name("answers").exists()
        admitted = self.headers["Authorization"] == "Bearer secret"
        self.send_response(200 if answers and admitted else 500)
        self.end_headers()
    def log_message(self, *_): pass
port = int(next(one.partition("=")[2] for one in sys.argv if one.startswith("--port=")))
pathlib.Path(__file__).with_name("argv").write_text(" ".join(sys.argv[1:]))
http.server.HTTPServer.allow_reuse_address = True
http.server.HTTPServer(("127.0.0.1", port), Handler).serve_forever()
"""


class Clock:
    """Seconds, as the test says."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Place:
    """An instance whose head has just started what Ray starts for a dashboard."""

    def __init__(self, directory: Path) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = int(probe.getsockname()[1])
        self.directory = directory
        self.instance = Instance(directory, port - DASHBOARD, directory)
        self.environment = {**os.environ, MARK: self.instance.mark}
        self.clock, self.output = Clock(), directory / "ray.log"
        (directory / "secrets").mkdir()
        (directory / "secrets" / "ray.token").write_text("secret")
        (directory / job_server.SCRIPT).write_text(_SCRIPT)
        (directory / "answers").touch()
        argv = [sys.executable, str(directory / job_server.SCRIPT), f"--port={port}"]
        argv += ["--node-ip-address=10.0.0.1", "--modules-to-load=UsageStatsHead", "--disable-frontend"]
        self.rays = subprocess.Popen(argv, env=self.environment)
        self.servers: list[JobServer] = []

    def server(self, *, whole_dashboard: bool = False) -> JobServer:
        """Taken over from Ray, and answering."""
        eventually((self.directory / "argv").exists)
        server = JobServer(self.instance, self.environment, whole_dashboard=whole_dashboard, clock=self.clock)
        server.take_over(self.output)
        self.servers.append(server)
        self.rays.poll()
        eventually(server.answers)
        return server

    def pids(self) -> list[int]:
        """The job server's processes that live."""
        processes.reap(keep=[self.rays.pid])
        return [one.pid for one in processes.find(self.instance.mark, job_server.SCRIPT) if processes.is_alive(one.pid)]


def eventually(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, "it did not come about"
        time.sleep(0.02)


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    one = Place(tmp_path)
    yield one
    for pid in one.pids():
        os.kill(pid, signal.SIGKILL)
    one.rays.kill()
    one.rays.wait()
    eventually(lambda: one.pids() == [] and not any(server._lives() for server in one.servers))


def test_rays_command_line_is_changed_to_jobs_alone_on_loopback() -> None:
    rays = ["python", "/ray/dashboard.py", "--host=127.0.0.1", "--port=1", "--node-ip-address=10.0.0.1"]
    rays += ["--modules-to-load=UsageStatsHead", "--disable-frontend"]
    assert jobs_alone(rays) == [*rays[:4], "--node-ip-address=127.0.0.1", "--modules-to-load=JobHead,NodeHead"]


def test_a_jobs_own_dashboard_is_left_alone(place: Place) -> None:
    own = place.directory / "job" / job_server.SCRIPT
    own.parent.mkdir()
    own.write_text("import time; time.sleep(60)")
    theirs = subprocess.Popen([sys.executable, str(own), "--port=1"], env=place.environment)
    try:
        server = place.server()
        server._end()
        eventually(lambda: place.pids() == [theirs.pid])
        assert theirs.poll() is None
        # A head that has started no dashboard: what the head before it had is not started any more.
        server.take_over(place.output)
        place.clock.now += 100
        server.keep(place.output)
        assert place.pids() == [theirs.pid]
    finally:
        theirs.kill()
        theirs.wait()


def test_what_ray_started_is_replaced(place: Place) -> None:
    place.server()
    [pid] = place.pids()
    assert pid != place.rays.pid
    assert "--modules-to-load=JobHead,NodeHead" in (place.directory / "argv").read_text()


def test_the_whole_dashboard_is_kept_as_ray_started_it(place: Place) -> None:
    place.server(whole_dashboard=True)
    assert place.pids() == [place.rays.pid]


def test_one_that_died_is_started_again_and_less_often_if_it_keeps_dying(place: Place) -> None:
    server = place.server()
    began: list[float] = []
    for _ in range(3):
        [pid] = place.pids()
        os.kill(pid, signal.SIGKILL)
        eventually(lambda: place.pids() == [])
        while not place.pids():
            server.keep(place.output)
            if not place.pids():
                place.clock.now += 0.25
        began.append(place.clock.now)
    assert [later - earlier for earlier, later in pairwise(began)] == [1.0, 2.0]


def test_one_that_does_not_answer_for_a_minute_is_replaced(place: Place) -> None:
    server = place.server()
    [pid] = place.pids()
    (place.directory / "answers").unlink()
    looks = 0
    while pid in place.pids():
        place.clock.now += job_server._LOOK_SECONDS
        server.keep(place.output)
        looks += 1
        eventually(lambda: place.pids() in ([], [pid]))
        assert looks <= job_server._PATIENCE
        if looks == job_server._PATIENCE:
            eventually(lambda: place.pids() == [])
    assert looks == job_server._PATIENCE
    (place.directory / "answers").touch()
    server.keep(place.output)
    eventually(server.answers)
    assert len(place.pids()) == 1


def test_one_that_answers_now_and_then_is_left_alone(place: Place) -> None:
    server = place.server()
    before = place.pids()
    for look in range(3 * job_server._PATIENCE):
        (place.directory / "answers").unlink(missing_ok=True)
        if look % (job_server._PATIENCE - 1) == 0:
            (place.directory / "answers").touch()
        place.clock.now += job_server._LOOK_SECONDS
        server.keep(place.output)
    assert place.pids() == before


def test_a_machine_that_refuses_a_process_is_asked_again(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    server = place.server()
    [pid] = place.pids()

    def refuse(*_: object, **__: object) -> None:
        raise OSError(11, "Resource temporarily unavailable")

    with monkeypatch.context() as refusing:
        refusing.setattr(job_server.subprocess, "Popen", refuse)
        os.kill(pid, signal.SIGKILL)
        eventually(lambda: place.pids() == [])
        server.keep(place.output)
        assert place.pids() == []
    place.clock.now += 1.0
    server.keep(place.output)
    eventually(server.answers)


def test_a_head_without_a_dashboard_is_no_error(tmp_path: Path) -> None:
    server = JobServer(Instance(tmp_path, 20_000, tmp_path), {}, whole_dashboard=False)
    server.take_over(tmp_path / "log")
    server.keep(tmp_path / "log")
    server.wait(0.0)
    assert not server.answers()
