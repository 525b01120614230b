"""Jobs on a real instance: programs that use handles, submitted with the stock `ray job submit` as a user would."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import stat
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.integration.clients import Cloud, administrator, eventually
from tests.integration.conftest import Service

pytestmark = pytest.mark.timeout(300)
_DOCUMENT = Path(__file__).parents[2] / "docs" / "handles.md"
_RAY = str(Path(sys.executable).with_name("ray"))
_RELEASE_SECONDS = 30
_BACK_SECONDS = 60

_HOLD = """
    import time
    from actors.handles import connect

    client = connect()
    volume = client.create_volume(1, name="held-by-a-job").ready()
    with volume.mounted("rw") as path:
        (path / "text").write_text("held")
        print(f"holding {volume.id}", flush=True)
        time.sleep(600)
"""
_FAIL = """
    import ray
    from actors.handles import connect

    @ray.remote
    def read(volume):
        print("a task looks")
        with volume.mounted("ro") as path:
            return sorted(path.iterdir())

    volume = connect().create_volume(1).ready()
    try:
        ray.get(read.options(**volume.locality()).remote(volume))
    finally:
        volume.refresh().delete()
"""


def _block(title: str) -> str:
    """The example of docs/handles.md with this title."""
    [text] = re.findall(
        rf"^```\w+ title={re.escape(title)}\n(.*?)^```", _DOCUMENT.read_text(), re.DOTALL | re.MULTILINE
    )
    return str(text)


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A user's working directory."""
    directory = tmp_path_factory.mktemp("programs")
    (directory / "train.py").write_text(_block("train.py"))
    (directory / "hold.py").write_text(textwrap.dedent(_HOLD))
    (directory / "fail.py").write_text(textwrap.dedent(_FAIL))
    return directory


@pytest.fixture(scope="module")
def admin(service: Service) -> Cloud:
    """The user as whom jobs act."""
    return administrator(service)


@pytest.fixture(scope="module")
def jobs(service: Service) -> str:
    """The URL of the job server, as `pumice status` says it."""
    return str(json.loads(service.run("status", "--json", timeout=60).stdout)["jobs"])


def _ray(service: Service, jobs: str, command: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """`ray job COMMAND --address … ARGUMENTS`, to its end, from a directory that has nothing to do with the project."""
    environment = {
        **service.environment(),
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(service.state_dir / "secrets" / "ray.token"),
    }
    return subprocess.run(
        [_RAY, "job", command, "--address", jobs, *arguments],
        env=environment,
        cwd=service.state_dir.parent,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )


def _traces(service: Service) -> list[str]:
    """Mounts of claims, and claims, on this node."""
    node = service.state_dir / "node"
    mounts = [line for line in Path("/proc/self/mountinfo").read_text().splitlines() if str(node) in line]
    return [*mounts, *(path.name for path in node.glob("*/*"))]


def _server(service: Service) -> dict[int, str]:
    """The processes of the job server, with their command lines."""
    names = ("dashboard.py", "ray-dashboard-JobHead")
    return {pid: argv for pid, argv in service.processes().items() if any(name in argv[:300] for name in names)}


def _version(service: Service, jobs: str) -> int | None:
    """The status of a request that the job server answers itself; None: it does not."""
    token = (service.state_dir / "secrets" / "ray.token").read_text()
    with contextlib.suppress(httpx.HTTPError):
        answer = httpx.get(f"{jobs}/api/version", headers={"Authorization": f"Bearer {token}"}, timeout=2)
        return answer.status_code
    return None


def test_what_up_says_is_how_a_job_is_submitted(service: Service, jobs: str) -> None:
    said = (service.state_dir / "logs" / "up.log").read_text()
    assert f"ray job submit --address {jobs} --working-dir . -- python train.py" in said
    assert f"RAY_AUTH_MODE=token RAY_AUTH_TOKEN_PATH={service.state_dir}/secrets/ray.token" in said
    assert jobs.startswith("http://127.0.0.1:")


def test_the_documents_example_prints_as_a_job_what_the_document_says(
    service: Service, jobs: str, programs: Path
) -> None:
    done = _ray(service, jobs, "submit", "--working-dir", str(programs), "--", "python", "train.py")
    assert done.returncode == 0, done.stdout + done.stderr
    assert _block("output") in done.stdout
    assert _traces(service) == []


def test_a_failing_job_says_why_and_shows_what_its_tasks_printed(
    service: Service, jobs: str, programs: Path, admin: Cloud
) -> None:
    done = _ray(service, jobs, "submit", "--working-dir", str(programs), "--", "python", "fail.py")
    assert done.returncode != 0
    assert re.search(r"FailedError: volume [0-9a-f-]{36} was not mounted: .* is empty", done.stdout), done.stdout
    assert "a task looks" in done.stdout
    assert _traces(service) == []
    assert admin.call("GET", "/volumes").json() == {"volumes": []}


@pytest.fixture
def held(service: Service, jobs: str, programs: Path, admin: Cloud) -> Iterator[tuple[str, str]]:
    """A job that runs and the volume that it holds mounted; the volume is removed."""
    submission = f"holding-{os.urandom(4).hex()}"
    asked = ("--no-wait", "--submission-id", submission, "--working-dir", str(programs), "--", "python", "hold.py")
    done = _ray(service, jobs, "submit", *asked)
    assert done.returncode == 0, done.stdout + done.stderr

    def holding() -> str | None:
        found = admin.call("GET", "/volumes/detail?name=held-by-a-job").json()["volumes"]
        return found[0]["id"] if found and found[0]["status"] == "in-use" else None

    volume_id = eventually(holding, "the job holds a volume", 90)
    yield submission, volume_id
    admin.delete("volumes", volume_id)


def _control(service: Service) -> set[int]:
    """The processes that must not notice what happens to the job server."""
    names = ("ray::ConductorActor", "ray::SchedulerActor", "ray::VolumeActor", "ray::ServeReplica", "gcs_server")
    found = {pid for pid, argv in service.processes().items() if any(name in argv[:300] for name in names)}
    assert len(found) >= len(names)
    return found


def test_a_job_outlives_the_job_server_and_gives_its_volume_back_when_it_is_stopped(
    service: Service, jobs: str, admin: Cloud, held: tuple[str, str]
) -> None:
    submission, volume_id = held
    control, before = _control(service), _server(service)
    [server] = [pid for pid, argv in before.items() if "dashboard.py" in argv]
    os.kill(server, signal.SIGKILL)
    eventually(lambda: not before.keys() & _server(service).keys(), "the old job server is gone")
    eventually(lambda: _version(service, jobs) == 200, "the job server is back", _BACK_SECONDS)
    assert control <= service.processes().keys()
    assert "RUNNING" in _ray(service, jobs, "status", submission).stdout

    stopped = _ray(service, jobs, "stop", submission)
    assert stopped.returncode == 0, stopped.stdout + stopped.stderr
    eventually(
        lambda: admin.show("volumes", volume_id)["status"] == "available", "the volume is free", _RELEASE_SECONDS
    )
    assert _traces(service) == []
    assert "was stopped" in _ray(service, jobs, "status", submission).stdout


def test_a_job_server_that_hangs_is_replaced_and_nothing_else_is(service: Service, jobs: str, admin: Cloud) -> None:
    control = _control(service)
    [hung] = [pid for pid, argv in _server(service).items() if "ray-dashboard-JobHead" in argv]
    os.kill(hung, signal.SIGSTOP)
    eventually(lambda: hung not in service.processes(), "it is ended", _BACK_SECONDS)
    eventually(lambda: _version(service, jobs) == 200, "the job server is back", _BACK_SECONDS)
    assert control <= service.processes().keys()
    assert admin.call("GET", "/volumes").json() == {"volumes": []}


@pytest.mark.parametrize("token", [None, "0" * 64])
def test_nobody_submits_without_the_token(service: Service, jobs: str, token: str | None) -> None:
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    body = {"entrypoint": "touch /tmp/never"}
    answers = [
        httpx.post(f"{jobs}/api/jobs/", json=body, headers=headers),
        httpx.get(f"{jobs}/api/jobs/", headers=headers),
        httpx.put(f"{jobs}/api/packages/gcs/_ray_pkg_0.zip", content=b"x", headers=headers),
    ]
    assert {answer.status_code for answer in answers} <= {401, 403}
    secret = service.state_dir / "secrets" / "ray.token"
    assert stat.S_IMODE(secret.stat().st_mode) == 0o600
