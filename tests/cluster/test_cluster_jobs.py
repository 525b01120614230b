"""A job of a cluster: its program may run on any node, and its tasks on every one, wherever it was submitted."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from tests.cluster.conftest import NODES, Cluster
from tests.integration.clients import Cloud

pytestmark = pytest.mark.timeout(300)
_PROGRAM = """
    import json, os, pathlib
    os.environ["RAY_DEDUP_LOGS"] = "0"
    import ray
    from actors.handles import connect
    from actors.names import HOST_LABEL

    # Ray takes the head for a driver's node where it sees the head's processes, and namespaces share those.
    ray.init(_node_ip_address=ADDRESS)
    client = connect()

    @ray.remote(num_cpus=0)
    def look(volume):
        own = ray.get_runtime_context().get_node_labels()[HOST_LABEL]
        print(f"looking on {own}")
        with volume.mounted("rw") as path:
            (path / "text").write_text(own)
        return own, pathlib.Path("beside.txt").read_text(), connect().volume(volume.id).host

    driver = os.environ["PUMICE_STATE_DIR"]
    volumes = [
        client.create_volume(1, volume_type="job-" + host, availability_zone=zone).ready()
        for host, zone in HOSTS.items()
    ]
    seen = ray.get([look.options(**one.locality()).remote(one) for one in volumes])
    for one in volumes:
        one.refresh().delete()
    print("seen:", json.dumps([driver, seen]))
"""


def _ray(environment: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [str(Path(sys.executable).with_name("ray")), "job", *arguments]
    return subprocess.run(command, env=environment, cwd="/", capture_output=True, text=True, timeout=200, check=False)


def test_a_job_uses_volumes_of_every_node_and_may_run_on_any(cluster: Cluster, cloud: Cloud, tmp_path: Path) -> None:
    hosts = sorted(NODES)
    for host in hosts:
        specs = {"volume_backend_name": NODES[host][0], "label:rack": NODES[host][2]["rack"]}
        made = cloud.call("POST", "/types", {"volume_type": {"name": f"job-{host}", "extra_specs": specs}})
        assert made.status_code == 200, made.text
    program = textwrap.dedent(_PROGRAM).replace("HOSTS", repr({host: NODES[host][1] for host in hosts}))
    (tmp_path / "work.py").write_text(program.replace("ADDRESS", repr(cluster["h1"].namespace.address)))
    (tmp_path / "beside.txt").write_text("from the working directory")
    environment = {
        **cluster.head.environment(),
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(cluster.head.state_dir / "secrets" / "ray.token"),
    }
    submit = ["submit", "--address", cluster.head.report()["jobs"]]
    submit += ["--working-dir", str(tmp_path), "--entrypoint-label-selector", json.dumps({"pumice.io/host": "h1"})]
    done = _ray(environment, *submit, "--", "python", "work.py")
    assert done.returncode == 0, done.stdout + done.stderr
    # Ray's agent takes the head's node for its own here, as a driver would, and looks for the job's log there.
    (log,) = cluster["h1"].place.state_dir.glob("ray/r/session_latest/logs/job-driver-raysubmit_*.log")
    logs = log.read_text()
    [line] = [line for line in logs.splitlines() if line.startswith("seen:")]
    driver, seen = json.loads(line.removeprefix("seen:"))
    assert driver == str(cluster["h1"].place.state_dir)
    assert seen == [[host, "from the working directory", host] for host in hosts]
    for host in hosts:
        assert f"looking on {host}" in logs, "what tasks print reaches the job's log from every node"
        assert list((cluster[host].place.state_dir / "node").glob("*/*")) == []
