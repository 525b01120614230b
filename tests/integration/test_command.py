"""The command line, as a user meets it, on real Ray."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from email.message import Message
from pathlib import Path

import psutil
import pytest
import yaml

from tests.integration.conftest import PUMICE, UP_SECONDS, Service

pytestmark = pytest.mark.timeout(900)


def report(service: Service) -> dict:
    done = service.run("status", "--json", timeout=60)
    return json.loads(done.stdout)


def answers(service: Service) -> bool:
    try:
        with urllib.request.urlopen(f"{service.endpoint}/healthcheck", timeout=5) as answer:
            return answer.status == 200
    except (urllib.error.URLError, OSError):
        return False


def eventually(condition: Callable[[], object], seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come about"
        time.sleep(0.3)


def request(
    service: Service, method: str, path: str, body: object = None, token: str = ""
) -> tuple[int, dict, Message]:
    call = urllib.request.Request(
        service.endpoint + path,
        method=method,
        data=None if body is None else json.dumps(body).encode(),
        headers={"Content-Type": "application/json", **({"X-Auth-Token": token} if token else {})},
    )
    with urllib.request.urlopen(call, timeout=30) as answer:
        text = answer.read()
        return answer.status, json.loads(text) if text else {}, answer.headers


def token(service: Service) -> str:
    auth = yaml.safe_load(service.clouds_yaml.read_text())["clouds"]["pumice"]["auth"]
    domain = {"name": "Default"}
    user = {"name": auth["username"], "password": auth["password"], "domain": domain}
    scope = {"project": {"name": auth["project_name"], "domain": domain}}
    body = {"auth": {"identity": {"methods": ["password"], "password": {"user": user}}, "scope": scope}}
    _, _, headers = request(service, "POST", "/identity/v3/auth/tokens", body)
    return headers["X-Subject-Token"]


def test_status_says_that_it_is_ready(service: Service) -> None:
    done = service.run("status", "--json", timeout=60)
    found = json.loads(done.stdout)
    assert done.returncode == 0
    assert found["ready"] is True
    assert found["endpoint"] == f"{service.endpoint}/v3"
    assert found["ray_address"].startswith("127.0.0.1:")
    assert {row["binary"] for row in found["services"]} >= {"cinder-volume", "cinder-scheduler"}
    assert found["pools"]
    assert found["operations"] == []
    assert service.run("status", timeout=60).returncode == 0


def test_the_credentials_open_the_service_and_are_the_owners_alone(service: Service) -> None:
    assert stat.S_IMODE(service.clouds_yaml.stat().st_mode) == 0o600
    assert stat.S_IMODE(service.state_dir.stat().st_mode) == 0o700
    status, body, _ = request(service, "GET", "/v3/volumes", token=token(service))
    assert (status, body["volumes"]) == (200, [])


def test_every_process_carries_the_state_directory(service: Service) -> None:
    up = psutil.Process(report(service)["pid"])
    missing = [
        process.cmdline()
        for process in up.children(recursive=True)
        if process.status() != psutil.STATUS_ZOMBIE and process.pid not in service.processes()
    ]
    assert missing == []
    names = " ".join(service.processes().values())
    for expected in ("gcs_server", "raylet", "haproxy", "ServeReplica", "VolumeActor"):
        assert expected in names


def test_it_listens_on_loopback_alone_but_for_ports_that_ask_for_the_token(service: Service) -> None:
    ours = service.processes()
    open_to_all = {
        (connection.pid, connection.laddr.port)
        for connection in psutil.net_connections("tcp")
        if connection.status == psutil.CONN_LISTEN
        and connection.pid in ours
        and not connection.laddr.ip.endswith("127.0.0.1")
    }
    # Serve's replicas have a gRPC port each for one another; docs/operations.md says so.
    assert all("ServeReplica" in ours[pid] for pid, _ in open_to_all)


def test_a_second_up_on_the_same_directory_says_who_runs(service: Service) -> None:
    done = service.run("up", "--port", str(service.port))
    assert done.returncode == 1
    assert str(report(service)["pid"]) in done.stderr
    assert "Traceback" not in done.stderr
    assert answers(service)


def test_logs_of_a_request(service: Service) -> None:
    _, _, headers = request(service, "GET", "/v3/volumes", token=token(service))
    request_id = headers["X-Openstack-Request-Id"]

    def found() -> bool:
        done = service.run("logs", "--request", request_id, timeout=60)
        assert done.returncode == 0, done.stderr
        return "path=/v3/volumes" in done.stdout

    eventually(found, 20)
    for path in (service.state_dir / "logs").glob("*.jsonl"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_no_password_in_any_log(service: Service) -> None:
    password = yaml.safe_load(service.clouds_yaml.read_text())["clouds"]["pumice"]["auth"]["password"]
    ray_token = (service.state_dir / "secrets" / "ray.token").read_text()
    given = token(service)
    for path in service.state_dir.rglob("*"):
        if path.is_file() and path.suffix in (".log", ".jsonl", ".out", ".err"):
            text = path.read_text(errors="replace")
            assert password not in text, path
            assert ray_token not in text, path
            assert given not in text, path


def test_the_gcs_may_die(service: Service) -> None:
    pid, _ = next(item for item in service.processes().items() if "gcs_server" in item[1])
    os.kill(pid, signal.SIGKILL)
    eventually(lambda: any("gcs_server" in argv and other != pid for other, argv in service.processes().items()), 30)
    assert answers(service)
    eventually(lambda: report(service)["ready"], 60)


def test_the_head_may_die(service: Service) -> None:
    pid, _ = next(item for item in service.processes().items() if "/raylet " in item[1])
    os.kill(pid, signal.SIGKILL)
    eventually(lambda: not report(service)["ready"], 30)
    eventually(lambda: report(service)["ready"], 240)
    assert answers(service)


@pytest.mark.parametrize(
    ("variables", "name"),
    [
        ({"PUMICE_PORTS": "1"}, "PUMICE_PORTS"),
        ({"PUMICE_QUOTAS__VOLUMES": "many"}, "quotas.volumes"),
        ({"PUMICE_IDENTITY__MODE": "noauth", "PUMICE_LISTEN": "0.0.0.0"}, "noauth"),
    ],
)
def test_a_bad_setting_is_refused_by_name(tmp_path: Path, variables: dict[str, str], name: str) -> None:
    done = Service(tmp_path / "state", 1, variables).run("up", timeout=60)
    assert done.returncode == 2
    assert name in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "state").exists()


def test_a_taken_port_is_said_and_nothing_is_started(service: Service, tmp_path: Path) -> None:
    other = Service(tmp_path / "state", service.port)
    done = other.run("up", "--port", str(service.port), timeout=60)
    assert done.returncode == 1
    assert str(service.port) in done.stderr
    assert other.leftovers() == []


def test_nothing_runs(tmp_path: Path) -> None:
    nobody = Service(tmp_path / "state", 1)
    assert nobody.run("status", "--json", timeout=60).returncode == 1
    assert nobody.run("down", timeout=60).returncode == 0


def test_a_second_instance_beside_the_first(service: Service, place: Service) -> None:
    before = set(service.processes())
    place.up()
    assert answers(place)
    assert report(place)["ready"]
    place.run("down", timeout=120)
    assert not answers(place)
    assert place.leftovers() == []
    assert answers(service)
    assert before <= set(service.processes())


def test_interrupt_stops_everything_and_volumes_are_found_again(place: Service) -> None:
    up = subprocess.Popen(
        [PUMICE, "up", "--state-dir", str(place.state_dir), "--port", str(place.port)],
        env=place.environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    eventually(lambda: up.poll() is not None or report(place)["ready"], UP_SECONDS)
    admitted = token(place)
    body = {"volume": {"size": 1, "name": "kept"}}
    _, made, _ = request(place, "POST", "/v3/volumes", body, admitted)
    path = f"/v3/volumes/{made['volume']['id']}"
    eventually(lambda: request(place, "GET", path, token=admitted)[1]["volume"]["status"] == "available", 60)
    up.send_signal(signal.SIGINT)
    said, complaints = up.communicate(timeout=120)
    assert (up.returncode, complaints) == (0, "")
    assert str(place.clouds_yaml) in said
    assert place.leftovers() == []

    place.up()
    status, found, _ = request(place, "GET", path, token=token(place))
    assert (status, found["volume"]["status"]) == (200, "available")


def test_down_clears_away_what_a_killed_up_left(place: Service) -> None:
    place.up()
    os.kill(report(place)["pid"], signal.SIGKILL)
    eventually(lambda: not report(place)["ready"], 30)
    assert place.processes()
    place.down()
