"""A real service whose records are in PostgreSQL, driven by the stock client.

What the store and the intents do on it is in test_stores.py, the revisions are in test_migrations.py.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.integration import disk
from tests.integration.clients import NEWEST, Cloud, eventually, project_of
from tests.integration.conftest import Service, _place
from tests.integration.databases import postgresql  # noqa: F401 - fixture
from tests.integration.postgresql_server import PostgresqlServer
from tests.integration.scenario import life_of_volumes

pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module")
def url(postgresql: PostgresqlServer) -> str:  # noqa: F811
    """The database of the service, empty at first."""
    return postgresql.new_database()


@pytest.fixture(scope="module")
def on_postgresql(url: str) -> Iterator[Service]:
    """A service on it."""
    with _place("postgresql") as one:
        one.variables["PUMICE_DATABASE_URL"] = url
        one.variables["PUMICE_JOBS"] = "false"
        one.up()
        yield one


@pytest.fixture
def cloud(on_postgresql: Service) -> Iterator[Cloud]:
    """An administrator in a project."""
    with project_of(on_postgresql, "postgresql") as one:
        yield one


def test_the_life_of_volumes(cloud: Cloud) -> None:
    life_of_volumes(cloud, "postgresql")
    assert disk.files(cloud.service) == set()


def test_the_life_of_an_attachment_with_the_longest_names(cloud: Cloud) -> None:
    """What SQLite takes whatever its length, PostgreSQL refuses: no column may get more than it was made for."""
    host, key = "卷" * 255, "k" * 255
    made = cloud.call("POST", "/qos-specs", {"qos_specs": {"name": "卷" * 255, key: "v" * 255}})
    assert made.status_code == 200, made.text
    assert made.json()["qos_specs"]["specs"] == {key: "v" * 255}
    qos_id = made.json()["qos_specs"]["id"]
    for wrong in ({"name": "n" * 256}, {"name": "n", "k" * 256: "v"}, {"name": "n", "k": "v" * 256}):
        assert cloud.call("POST", "/qos-specs", {"qos_specs": wrong}).status_code == 400, wrong
    assert cloud.call("DELETE", f"/qos-specs/{qos_id}").status_code == 202

    volume_id = cloud.create(1)["id"]
    reserved = cloud.call("POST", "/attachments", {"attachment": {"volume_uuid": volume_id}}, minor=NEWEST)
    path = f"/attachments/{reserved.json()['attachment']['id']}"
    answer = cloud.call("PUT", path, {"attachment": {"connector": {"host": f"{host}x"}}}, minor=NEWEST)
    assert (answer.status_code, "too long" in answer.text) == (400, True), answer.text
    # Longer than a loop device's node may be called: no export serves it, and it is in the records all the same.
    answer = cloud.call("PUT", path, {"attachment": {"connector": {"host": host}}}, minor=NEWEST)
    assert answer.status_code == 400, answer.text
    assert cloud.call("DELETE", path, minor=NEWEST).status_code == 200

    action = f"/volumes/{volume_id}/action"
    attach = {"host_name": host, "mountpoint": "/" * 255, "mode": "rw"}
    for wrong in ({"host_name": f"{host}x"}, {"mountpoint": "/" * 256}):
        assert cloud.call("POST", action, {"os-attach": {**attach, **wrong}}).status_code == 400, wrong
    assert cloud.call("POST", action, {"os-attach": attach}).status_code == 202
    [shown] = cloud.show("volumes", volume_id)["attachments"]
    assert (shown["host_name"], shown["device"]) == (host, "/" * 255)
    assert cloud.call("POST", action, {"os-detach": {}}).status_code == 202
    cloud.delete("volumes", volume_id)


def test_there_is_no_other_database(cloud: Cloud, postgresql: PostgresqlServer, url: str) -> None:  # noqa: F811
    volume = cloud.create(1, name="in PostgreSQL")
    assert not (cloud.service.state_dir / "pumice.db").exists()
    with postgresql.connect(url.rpartition("/")[2]) as db:
        rows = db.execute("SELECT name, status FROM volume WHERE id = %s", [volume["id"]]).fetchall()
    assert rows == [("in PostgreSQL", "available")]


def test_the_password_is_in_no_process_list_and_no_log(cloud: Cloud, url: str) -> None:
    password = url.partition("//")[2].partition(":")[2].partition("@")[0]
    for title in cloud.service.processes().values():
        assert password not in title
    for path in (cloud.service.state_dir / "logs").rglob("*"):
        if path.is_file():
            assert password not in path.read_text(errors="replace"), path


def test_the_server_is_restarted(cloud: Cloud, postgresql: PostgresqlServer) -> None:  # noqa: F811
    before = cloud.create(1)
    postgresql.stop()
    try:
        eventually(lambda: cloud.call("GET", "/volumes").status_code == 503, "the service says that it has no records")
    finally:
        postgresql.start()
    eventually(lambda: cloud.call("GET", "/volumes").status_code == 200, "the service answers again")
    assert cloud.show("volumes", before["id"])["status"] == "available"
    assert cloud.create(1)["status"] == "available"
