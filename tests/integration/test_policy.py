"""Who may do what: readers, members and administrators that the identity API has made, and people of other projects."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from tests.integration.clients import Cloud, administrator, eventually, new_cloud, project_of
from tests.integration.conftest import Service


@dataclass
class People:
    """Users by role in one project, one of another project, and a volume and a snapshot of the first."""

    admin: Cloud
    member: Cloud
    reader: Cloud
    stranger: Cloud
    volume: dict[str, Any]
    snapshot: dict[str, Any]


@pytest.fixture(scope="module")
def people(service: Service) -> Iterator[People]:
    """A project with one user of each role."""
    with project_of(service, "policy") as admin, project_of(service, "stranger", "member") as stranger:
        member = new_cloud(service, "member", "member", admin.project)
        reader = new_cloud(service, "reader", "reader", admin.project)
        volume = member.create(1, name="of the member", metadata={"k": "v"})
        yield People(admin, member, reader, stranger, volume, member.snapshot(volume["id"]))
        # A member's own purge could not force.
        stranger_volumes = stranger.call("GET", "/volumes").json()["volumes"]
        assert stranger_volumes == []


def _forbidden(answer: httpx.Response) -> None:
    assert answer.status_code == 403, answer.text
    assert answer.json()["forbidden"]["message"].startswith("Policy doesn't allow ")


Request = Callable[[People], tuple[str, str, Any]]
_READS: dict[str, Request] = {
    "volumes": lambda p: ("GET", "/volumes/detail", None),
    "volume": lambda p: ("GET", f"/volumes/{p.volume['id']}", None),
    "summary": lambda p: ("GET", "/volumes/summary", None),
    "metadata": lambda p: ("GET", f"/volumes/{p.volume['id']}/metadata", None),
    "snapshots": lambda p: ("GET", "/snapshots/detail", None),
    "snapshot": lambda p: ("GET", f"/snapshots/{p.snapshot['id']}", None),
    "types": lambda p: ("GET", "/types", None),
    "limits": lambda p: ("GET", "/limits", None),
    "zones": lambda p: ("GET", "/os-availability-zone", None),
    "extensions": lambda p: ("GET", "/extensions", None),
    "messages": lambda p: ("GET", "/messages", None),
    "own quota": lambda p: ("GET", f"/os-quota-sets/{p.admin.project_id}", None),
}
_WRITES: dict[str, Request] = {
    "create": lambda p: ("POST", "/volumes", {"volume": {"size": 1}}),
    "rename": lambda p: ("PUT", f"/volumes/{p.volume['id']}", {"volume": {"name": "new"}}),
    "metadata": lambda p: ("POST", f"/volumes/{p.volume['id']}/metadata", {"metadata": {"a": "b"}}),
    "extend": lambda p: ("POST", f"/volumes/{p.volume['id']}/action", {"os-extend": {"new_size": 1}}),
    "bootable": lambda p: ("POST", f"/volumes/{p.volume['id']}/action", {"os-set_bootable": {"bootable": True}}),
    "snapshot": lambda p: ("POST", "/snapshots", {"snapshot": {"volume_id": p.volume["id"]}}),
    "rename snapshot": lambda p: ("PUT", f"/snapshots/{p.snapshot['id']}", {"snapshot": {"name": "new"}}),
    "delete snapshot": lambda p: ("DELETE", f"/snapshots/{p.snapshot['id']}", None),
    "delete": lambda p: ("DELETE", f"/volumes/{p.volume['id']}", None),
}
_ADMINISTRATION: dict[str, Request] = {
    "services": lambda p: ("GET", "/os-services", None),
    "disable": lambda p: ("PUT", "/os-services/disable", {"binary": "cinder-volume", "host": "nobody@nothing"}),
    "pools": lambda p: ("GET", "/scheduler-stats/get_pools", None),
    "create type": lambda p: ("POST", "/types", {"volume_type": {"name": "t"}}),
    "delete type": lambda p: ("DELETE", f"/types/{p.volume['volume_type_id']}", None),
    "specs": lambda p: ("POST", f"/types/{p.volume['volume_type_id']}/extra_specs", {"extra_specs": {"a": "b"}}),
    "quota": lambda p: ("PUT", f"/os-quota-sets/{p.admin.project_id}", {"quota_set": {"volumes": 10}}),
    "reset": lambda p: ("POST", f"/volumes/{p.volume['id']}/action", {"os-reset_status": {"status": "error"}}),
    "force": lambda p: ("POST", f"/volumes/{p.volume['id']}/action", {"os-force_delete": {}}),
    "force snapshot": lambda p: ("POST", f"/snapshots/{p.snapshot['id']}/action", {"os-force_delete": {}}),
    "force by query": lambda p: ("DELETE", f"/volumes/{p.volume['id']}?force=true", None),
    "default types": lambda p: ("GET", "/default-types", None),
}


@pytest.mark.parametrize("name", _READS)
def test_a_reader_reads(people: People, name: str) -> None:
    method, path, body = _READS[name](people)
    answer = people.reader.call(method, path, body, minor=71)
    assert answer.status_code == 200, answer.text


@pytest.mark.parametrize("name", _WRITES)
def test_a_reader_writes_nothing(people: People, name: str) -> None:
    method, path, body = _WRITES[name](people)
    before = people.admin.call("GET", "/volumes/detail").json()
    _forbidden(people.reader.call(method, path, body, minor=71))
    assert people.admin.call("GET", "/volumes/detail").json() == before


@pytest.mark.parametrize("name", _ADMINISTRATION)
def test_only_an_administrator_administrates(people: People, name: str) -> None:
    method, path, body = _ADMINISTRATION[name](people)
    for person in (people.reader, people.member):
        _forbidden(person.call(method, path, body, minor=71))
    assert people.admin.show("volumes", people.volume["id"])["status"] == "available"


def test_a_member_does_the_daily_work(people: People) -> None:
    member = people.member
    made = member.create(1, metadata={"a": "b"})
    assert member.call("PUT", f"/volumes/{made['id']}", {"volume": {"name": "n"}}).status_code == 200
    answer = member.call("POST", f"/volumes/{made['id']}/action", {"os-extend": {"new_size": 2}})
    assert answer.status_code == 202
    member.settled("volumes", made["id"])
    point = member.snapshot(made["id"])
    member.delete("snapshots", point["id"])
    member.delete("volumes", made["id"])


def test_members_of_a_project_share_its_volumes(people: People) -> None:
    for person in (people.admin, people.member, people.reader):
        ids = [one["id"] for one in person.call("GET", "/volumes").json()["volumes"]]
        assert ids == [people.volume["id"]]


def test_a_stranger_sees_and_does_nothing(people: People) -> None:
    for requests in (_READS, _WRITES):
        for name, request in requests.items():
            method, path, body = request(people)
            if people.volume["id"] in path or people.snapshot["id"] in path or name == "snapshot":
                assert people.stranger.call(method, path, body, minor=71).status_code == 404, name
    _forbidden(people.stranger.call("GET", f"/os-quota-sets/{people.admin.project_id}"))
    answer = people.stranger.call("GET", "/volumes/detail?all_tenants=1", minor=71)
    assert answer.json()["volumes"] == []


def test_an_administrator_sees_all_projects_when_asking(people: People, service: Service) -> None:
    boss = administrator(service)
    own = [one["id"] for one in boss.call("GET", "/volumes").json()["volumes"]]
    everything = [one["id"] for one in boss.call("GET", "/volumes?all_tenants=1").json()["volumes"]]
    assert people.volume["id"] not in own
    assert people.volume["id"] in everything
    assert boss.call("GET", f"/volumes/{people.volume['id']}").status_code == 200


def test_a_private_type_is_for_its_projects(people: People) -> None:
    admin, member = people.admin, people.member
    body = {"volume_type": {"name": f"private-{admin.project}", "os-volume-type-access:is_public": False}}
    made = admin.call("POST", "/types", body).json()["volume_type"]
    try:
        wanted = {"volume": {"size": 1, "volume_type": made["name"]}}
        assert member.call("GET", f"/types/{made['id']}").status_code == 404
        assert member.call("POST", "/volumes", wanted).status_code == 404
        grant = {"addProjectAccess": {"project": admin.project_id}}
        assert admin.call("POST", f"/types/{made['id']}/action", grant).status_code == 202
        assert member.call("GET", f"/types/{made['id']}").status_code == 200
        assert people.stranger.call("GET", f"/types/{made['id']}").status_code == 404
        volume = member.create(1, volume_type=made["name"])
        assert volume["volume_type"] == made["name"]
        member.delete("volumes", volume["id"])
    finally:
        assert admin.call("DELETE", f"/types/{made['id']}").status_code == 202


def test_extra_specs_are_the_administrators(people: People) -> None:
    specs = {"volume_backend_name": "reflink", "multiattach": "<is> False"}
    body = {"volume_type": {"name": f"specs-{people.admin.project}", "extra_specs": specs}}
    made = people.admin.call("POST", "/types", body).json()["volume_type"]
    try:
        assert people.admin.call("GET", f"/types/{made['id']}").json()["volume_type"]["extra_specs"] == specs
        seen = people.member.call("GET", f"/types/{made['id']}").json()["volume_type"]
        assert seen["extra_specs"] == {"multiattach": "<is> False"}
        assert "qos_specs_id" not in seen
    finally:
        people.admin.call("DELETE", f"/types/{made['id']}")


def test_who_is_taken_off_the_project_is_out(people: People, service: Service) -> None:
    boss = administrator(service)
    headers = {"X-Auth-Token": boss.token}
    guest = new_cloud(service, "guest", "member", people.admin.project)
    assert guest.call("GET", "/volumes").status_code == 200
    users = boss.http.get(f"/identity/v3/users?name={guest.user}", headers=headers).json()["users"]
    answer = boss.http.patch(f"/identity/v3/users/{users[0]['id']}", json={"user": {"enabled": False}}, headers=headers)
    assert answer.status_code == 200, answer.text
    eventually(
        lambda: all(guest.call("GET", "/volumes").status_code == 401 for _ in range(8)),
        "every replica refuses the disabled user's token",
    )


def test_only_an_administrator_makes_users(people: People) -> None:
    headers = {"X-Auth-Token": people.member.token}
    http = people.member.http
    body = {"user": {"name": "intruder", "password": "x" * 12}}
    assert http.post("/identity/v3/users", json=body, headers=headers).status_code == 403
    assert http.post("/identity/v3/projects", json={"project": {"name": "x"}}, headers=headers).status_code == 403
    assert http.get("/identity/v3/users", headers=headers).status_code == 403
