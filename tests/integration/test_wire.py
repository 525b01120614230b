"""The wire over real HTTP: statuses, envelopes, key sets, version negotiation, refusals of what is malformed."""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.integration import disk
from tests.integration.clients import NEWEST, Cloud, eventually, new_cloud, project_of
from tests.integration.conftest import Service

_NOBODY = "00000000-0000-4000-8000-000000000000"
_REQUEST_ID = re.compile(r"req-[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_KEYS = {
    400: "badRequest",
    403: "forbidden",
    404: "itemNotFound",
    406: "computeFault",
    409: "conflictingRequest",
    413: "overLimit",
    415: "badMediaType",
}


@pytest.fixture(scope="module")
def cloud(service: Service) -> Iterator[Cloud]:
    """An administrator in a project of this module."""
    with project_of(service, "wire") as one:
        yield one


@pytest.fixture(scope="module")
def volume(cloud: Cloud) -> dict[str, Any]:
    """An available volume of 2 GiB; tests leave its size and status as they are."""
    return cloud.create(2, name="wire", description="d", metadata={"k": "v"})


@pytest.fixture(scope="module")
def snapshot(cloud: Cloud, volume: dict[str, Any]) -> dict[str, Any]:
    """A snapshot of it."""
    return cloud.snapshot(volume["id"], name="point")


def refused(answer: httpx.Response, status: int, *words: str) -> str:
    """The message of a refusal in Cinder's envelope, with all of `words` in it."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"].startswith("application/json")
    body = answer.json()
    assert list(body) == [_KEYS[status]]
    inner = body[_KEYS[status]]
    assert set(inner) <= {"code", "message", "retryAfter"}
    assert inner["code"] == status
    for word in words:
        assert word in inner["message"]
    return str(inner["message"])


class TestVersions:
    """Version documents and microversion negotiation."""

    def test_root_lists_the_versions_to_anybody(self, cloud: Cloud) -> None:
        answer = cloud.http.get("/")
        assert answer.status_code == 300
        (version,) = answer.json()["versions"]
        assert (version["id"], version["status"]) == ("v3.0", "CURRENT")
        assert (version["min_version"], version["version"]) == ("3.0", f"3.{NEWEST}")
        links = {link["rel"]: link["href"] for link in version["links"]}
        assert links["self"] == f"{cloud.service.endpoint}/v3/"

    def test_v3_shows_its_version(self, cloud: Cloud) -> None:
        answer = cloud.http.get("/v3/", headers={"X-Auth-Token": cloud.token})
        assert answer.status_code == 200
        assert answer.json()["versions"][0]["version"] == f"3.{NEWEST}"

    def test_v3_without_slash_leads_to_it(self, cloud: Cloud) -> None:
        answer = cloud.http.get("/v3", headers={"X-Auth-Token": cloud.token})
        assert (answer.status_code, answer.headers["location"]) == (302, f"{cloud.service.endpoint}/v3/")

    def test_healthcheck_needs_no_token(self, cloud: Cloud) -> None:
        answer = cloud.http.get("/healthcheck")
        assert (answer.status_code, answer.text) == (200, "OK")

    @pytest.mark.parametrize(
        ("header", "version"),
        [
            (None, "3.0"),
            ("volume 3.0", "3.0"),
            ("volume 3.12", "3.12"),
            ("volume 3.45", "3.45"),
            ("volume 3.71", "3.71"),
            ("volume latest", "3.71"),
            ("compute 2.90, volume 3.45", "3.45"),
        ],
    )
    def test_negotiation(self, cloud: Cloud, header: str | None, version: str) -> None:
        answer = cloud.call("GET", "/volumes", minor=header)
        assert answer.status_code == 200
        assert answer.headers["openstack-api-version"] == f"volume {version}"
        assert answer.headers["vary"] == "OpenStack-API-Version"
        assert _REQUEST_ID.fullmatch(answer.headers["x-openstack-request-id"])
        assert answer.headers["x-compute-request-id"] == answer.headers["x-openstack-request-id"]

    @pytest.mark.parametrize("version", ["3.72", "3.9999", "2.0", "4.0"])
    def test_out_of_range(self, cloud: Cloud, version: str) -> None:
        message = refused(cloud.call("GET", "/volumes", minor=f"volume {version}"), 406, version)
        assert "Minimum is 3.0 and maximum is 3.71" in message

    @pytest.mark.parametrize("version", ["three", "3", "3.", "3.01", "-3.1", "3.1.1", "3.x"])
    def test_malformed(self, cloud: Cloud, version: str) -> None:
        refused(cloud.call("GET", "/volumes", minor=f"volume {version}"), 400, "invalid format")

    @pytest.mark.parametrize(("path", "since"), [("/volumes/summary", 12), ("/messages", 3), ("/resource_filters", 33)])
    def test_methods_begin_at_their_version(self, cloud: Cloud, path: str, since: int) -> None:
        refused(cloud.call("GET", path, minor=since - 1), 404)
        assert cloud.call("GET", path, minor=since).status_code == 200

    def test_routes_exist_with_and_without_the_project(self, cloud: Cloud, volume: dict[str, Any]) -> None:
        headers = {"X-Auth-Token": cloud.token, "OpenStack-API-Version": "volume 3.67"}
        answer = cloud.http.get(f"/v3/volumes/{volume['id']}", headers=headers)
        assert answer.status_code == 200
        assert answer.json()["volume"]["id"] == volume["id"]


_AT_3_0 = frozenset(
    {
        *("id", "name", "description", "status", "size", "availability_zone", "created_at", "updated_at", "user_id"),
        *("volume_type", "snapshot_id", "source_volid", "consistencygroup_id", "metadata", "links", "attachments"),
        *("bootable", "encrypted", "multiattach", "replication_status", "migration_status", "os-vol-host-attr:host"),
        *("os-vol-tenant-attr:tenant_id", "os-vol-mig-status-attr:migstat", "os-vol-mig-status-attr:name_id"),
    }
)
_LATER = {
    13: {"group_id"},
    21: {"provider_id"},
    48: {"shared_targets", "service_uuid"},
    61: {"cluster_name"},
    63: {"volume_type_id"},
    65: {"consumes_quota"},
}
_ADMIN_ONLY = {
    *("migration_status", "os-vol-host-attr:host", "os-vol-mig-status-attr:migstat", "os-vol-mig-status-attr:name_id"),
    *("provider_id", "cluster_name"),
}


class TestShapes:
    """Exactly the keys of each microversion, of the right types."""

    @pytest.mark.parametrize("minor", [0, 12, 13, 20, 21, 45, 47, 48, 60, 61, 62, 63, 64, 65, 70, 71])
    def test_volume(self, cloud: Cloud, volume: dict[str, Any], minor: int) -> None:
        expected = _AT_3_0.union(*(keys for since, keys in _LATER.items() if since <= minor))
        shown = cloud.call("GET", f"/volumes/{volume['id']}", minor=minor).json()
        assert list(shown) == ["volume"]
        assert set(shown["volume"]) == expected
        listed = cloud.call("GET", "/volumes/detail", minor=minor).json()
        assert set(listed) == {"volumes"}
        assert set(listed["volumes"][0]) == expected

    def test_values(self, cloud: Cloud, volume: dict[str, Any]) -> None:
        one = cloud.show("volumes", volume["id"])
        wire_time = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}")
        assert wire_time.fullmatch(one["created_at"])
        assert wire_time.fullmatch(one["updated_at"])
        assert (one["bootable"], one["encrypted"], one["multiattach"]) == ("false", False, False)
        assert (one["size"], one["metadata"], one["attachments"]) == (2, {"k": "v"}, [])
        assert one["os-vol-tenant-attr:tenant_id"] == cloud.project_id
        assert re.fullmatch(r"[^@#]+@reflink#reflink", one["os-vol-host-attr:host"])
        base = cloud.service.endpoint
        assert {link["rel"]: link["href"] for link in one["links"]} == {
            "self": f"{base}/v3/{cloud.project_id}/volumes/{one['id']}",
            "bookmark": f"{base}/{cloud.project_id}/volumes/{one['id']}",
        }

    def test_a_member_sees_no_insides(self, service: Service, cloud: Cloud, volume: dict[str, Any]) -> None:
        member = new_cloud(service, "wire-member", "member", cloud.project)
        seen = set(member.show("volumes", volume["id"]))
        assert seen == _AT_3_0.union(*_LATER.values()) - _ADMIN_ONLY

    def test_the_short_list(self, cloud: Cloud, volume: dict[str, Any]) -> None:
        listed = cloud.call("GET", "/volumes").json()["volumes"]
        assert {frozenset(item) for item in listed} == {frozenset({"id", "name", "links"})}

    def test_create_answers_before_the_volume_is_there(self, cloud: Cloud) -> None:
        answer = cloud.call("POST", "/volumes", {"volume": {"size": 1, "name": "new"}}, minor=71)
        assert answer.status_code == 202
        made = answer.json()["volume"]
        extended = {key for key in _AT_3_0 if key.startswith("os-vol-")}
        assert set(made) == _AT_3_0.union(*_LATER.values()) - extended
        assert (made["status"], made["updated_at"]) == ("creating", None)
        cloud.settled("volumes", made["id"])
        cloud.delete("volumes", made["id"])

    @pytest.mark.parametrize("minor", [0, 14, 41, 65, 71])
    def test_snapshot(self, cloud: Cloud, snapshot: dict[str, Any], minor: int) -> None:
        expected = {"id", "created_at", "updated_at", "name", "description", "volume_id", "status", "size", "metadata"}
        summary = cloud.call("GET", "/snapshots", minor=minor).json()["snapshots"]
        assert {frozenset(item) for item in summary} == {frozenset(expected)}
        expected |= {f"os-extended-snapshot-attributes:{key}" for key in ("project_id", "progress")}
        for since, key in ((14, "group_snapshot_id"), (41, "user_id"), (65, "consumes_quota")):
            expected |= {key} if since <= minor else set()
        shown = cloud.call("GET", f"/snapshots/{snapshot['id']}", minor=minor).json()["snapshot"]
        assert set(shown) == expected
        assert shown["os-extended-snapshot-attributes:progress"] == "100%"

    def test_actions_answer_without_a_body(self, cloud: Cloud, volume: dict[str, Any]) -> None:
        for key, value, status in (
            ("os-update_readonly_flag", {"readonly": True}, 202),
            ("os-update_readonly_flag", {"readonly": "false"}, 202),
            ("os-set_bootable", {"bootable": False}, 200),
            ("os-reset_status", {"status": "available"}, 202),
        ):
            answer = cloud.call("POST", f"/volumes/{volume['id']}/action", {key: value})
            assert (answer.status_code, answer.content) == (status, b"")

    def test_metadata_etag(self, cloud: Cloud, volume: dict[str, Any]) -> None:
        path = f"/volumes/{volume['id']}/metadata"
        answer = cloud.call("GET", path, minor=15)
        assert answer.headers["content-type"].startswith("text/html")
        tag = answer.headers["etag"].strip('"')
        stale = cloud.call("PUT", path, {"metadata": {"k": "w"}}, minor=15, headers={"If-Match": '"0"'})
        assert (stale.status_code, stale.content) == (412, b"")
        fresh = cloud.call("PUT", path, {"metadata": {"k": "v"}}, minor=15, headers={"If-Match": f'"{tag}"'})
        assert fresh.status_code == 200

    def test_paging(self, cloud: Cloud) -> None:
        ids = {cloud.create(1, name=f"page-{number}")["id"] for number in range(3)}
        found: list[str] = []
        path = "/volumes/detail?name~=page-&limit=2&sort=name:asc"
        while True:
            body = cloud.call("GET", path, minor=71).json()
            found += [item["name"] for item in body["volumes"]]
            if "volumes_links" not in body:
                break
            (link,) = body["volumes_links"]
            assert link["rel"] == "next"
            path = link["href"].partition(f"/v3/{cloud.project_id}")[2]
        assert found == ["page-0", "page-1", "page-2"]
        counted = cloud.call("GET", "/volumes?name~=page-&limit=1&with_count=true", minor=45).json()
        assert counted["count"] == 3
        for item in ids:
            cloud.delete("volumes", item)


class TestNotThere:
    """Paths, methods, ids that are not there, or not the caller's."""

    @pytest.mark.parametrize("path", ["/nothing", "/volumes/a/b/c", "/os-hosts/x/y/z"])
    def test_unknown_path(self, cloud: Cloud, path: str) -> None:
        answer = cloud.call("GET", path)
        assert answer.status_code == 404
        assert answer.json()["code"] == "404 Not Found"
        assert set(answer.json()) == {"message", "code", "title"}

    @pytest.mark.parametrize("method", ["PATCH", "PUT", "DELETE"])
    def test_methods_that_no_route_has(self, cloud: Cloud, method: str) -> None:
        answer = cloud.call(method, "/volumes", {})
        assert (answer.status_code, answer.json()["code"]) == (404, "404 Not Found")

    def test_outside_of_v3(self, cloud: Cloud) -> None:
        assert cloud.http.get("/v2/volumes").status_code == 404
        assert cloud.http.get("/favicon.ico").status_code == 404

    @pytest.mark.parametrize("item", [_NOBODY, "nothing", "%20", "a" * 300, "%27%3B--", "..%2f..%2fetc%2fpasswd"])
    def test_unknown_ids(self, cloud: Cloud, item: str) -> None:
        for path in (f"/volumes/{item}", f"/snapshots/{item}", f"/types/{item}", f"/messages/{item}"):
            answer = cloud.call("GET", path, minor=71)
            assert answer.status_code == 404, (path, answer.text)

    def test_delete_of_what_never_was(self, cloud: Cloud) -> None:
        refused(cloud.call("DELETE", f"/volumes/{_NOBODY}"), 404, f"Volume {_NOBODY} could not be found.")
        refused(cloud.call("DELETE", f"/snapshots/{_NOBODY}"), 404, f"Snapshot {_NOBODY} could not be found.")

    def test_a_replayed_delete_is_a_404(self, cloud: Cloud) -> None:
        made = cloud.create(1)
        cloud.delete("volumes", made["id"])
        refused(cloud.call("DELETE", f"/volumes/{made['id']}"), 404)
        refused(cloud.call("POST", f"/volumes/{made['id']}/action", {"os-force_delete": None}), 404)

    def test_deletes_at_once_are_one_delete(self, cloud: Cloud) -> None:
        made = cloud.create(1)
        statuses = [cloud.call("DELETE", f"/volumes/{made['id']}").status_code for _ in range(3)]
        assert statuses[0] == 202
        assert set(statuses[1:]) <= {400, 404}
        cloud.gone("volumes", made["id"])

    def test_another_projects_things(
        self, service: Service, cloud: Cloud, volume: dict[str, Any], snapshot: dict[str, Any]
    ) -> None:
        other = new_cloud(service, "wire-other", "member")
        for path in (f"/volumes/{volume['id']}", f"/snapshots/{snapshot['id']}"):
            refused(other.call("GET", path), 404)
            refused(other.call("DELETE", path), 404)
        refused(other.call("POST", f"/volumes/{volume['id']}/action", {"os-extend": {"new_size": 9}}), 404)
        refused(other.call("POST", "/volumes", {"volume": {"size": 2, "source_volid": volume["id"]}}), 404)
        refused(other.call("POST", "/volumes", {"volume": {"size": 2, "snapshot_id": snapshot["id"]}}), 404)
        refused(other.call("POST", "/snapshots", {"snapshot": {"volume_id": volume["id"]}}), 404)
        assert other.call("GET", "/volumes/detail?all_tenants=1").json()["volumes"] == []
        assert cloud.show("volumes", volume["id"])["status"] == "available"

    def test_another_project_in_the_url(self, cloud: Cloud) -> None:
        headers = {"X-Auth-Token": cloud.token}
        refused(cloud.http.get(f"/v3/{uuid.uuid4().hex}/volumes", headers=headers), 400, "Malformed request url")


class TestTokens:
    """Who has no token, or a wrong one."""

    @pytest.mark.parametrize("token", [None, "", "x", "a.b.c", "é", "x" * 4000])
    def test_unauthorized(self, cloud: Cloud, token: str | None) -> None:
        headers = {} if token is None else {"X-Auth-Token": token.encode("latin-1")}
        answer = cloud.http.get(f"/v3/{cloud.project_id}/volumes", headers=headers)
        assert answer.status_code == 401
        assert answer.headers["www-authenticate"].startswith("Keystone uri=")

    def test_a_forged_signature(self, cloud: Cloud) -> None:
        body, _, _ = cloud.token.rpartition(".")
        answer = cloud.http.get("/v3/volumes", headers={"X-Auth-Token": f"{body}.AAAA"})
        assert answer.status_code == 401

    def test_a_revoked_token(self, cloud: Cloud) -> None:
        token, _ = cloud.login()
        headers = {"X-Auth-Token": token}
        assert cloud.http.get("/v3/volumes", headers=headers).status_code == 200
        gone = cloud.http.delete("/identity/v3/auth/tokens", headers={**headers, "X-Subject-Token": token})
        assert gone.status_code == 204
        eventually(
            lambda: all(cloud.http.get("/v3/volumes", headers=headers).status_code == 401 for _ in range(8)),
            "every replica refuses the token",
        )

    def test_the_token_is_asked_for_before_the_body_is_read(self, cloud: Cloud) -> None:
        assert cloud.http.post(f"/v3/{cloud.project_id}/volumes", content=b"{").status_code == 401


class TestBodies:
    """Bodies that are no JSON, too long, of wrong types; values out of range."""

    @pytest.mark.parametrize("content", [b"{", b"[1,", b"\xff\xfe", b'{"volume": {"size": NaN}}', b"nothing"])
    def test_malformed_json(self, cloud: Cloud, content: bytes) -> None:
        answer = cloud.call("POST", "/volumes", content=content, headers={"Content-Type": "application/json"})
        refused(answer, 400, "Malformed request body")

    def test_content_type(self, cloud: Cloud) -> None:
        answer = cloud.call("POST", "/volumes", content=b"<volume/>", headers={"Content-Type": "application/xml"})
        refused(answer, 415)

    def test_too_long(self, cloud: Cloud) -> None:
        body = json.dumps({"volume": {"size": 1, "description": "x" * 120_000}}).encode()
        for content in (body, iter([body])):  # announced, and sent in chunks
            answer = cloud.call("POST", "/volumes", content=content, headers={"Content-Type": "application/json"})
            refused(answer, 413, "too large")

    def test_just_short_enough(self, cloud: Cloud) -> None:
        body = json.dumps({"volume": {"size": 1, "description": "x" * 110_000}}).encode()
        answer = cloud.call("POST", "/volumes", content=body, headers={"Content-Type": "application/json"})
        refused(answer, 400, "too long")

    @pytest.mark.parametrize(
        "body", [None, [], "x", 1, {}, {"volumes": {}}, {"volume": None}, {"volume": []}, {"volume": {}, "x": 1}]
    )
    def test_no_volume_in_it(self, cloud: Cloud, body: Any) -> None:
        refused(cloud.call("POST", "/volumes", body), 400)

    @pytest.mark.parametrize(
        "size", [0, -1, 2**31, 10**30, 1.5, 1.0, "0", "-1", "1.5", "", "x", "1 ", "٣", True, [], {}, [1]]
    )
    def test_sizes(self, cloud: Cloud, volume: dict[str, Any], size: Any) -> None:
        before = cloud.call("GET", "/volumes").json()
        refused(cloud.call("POST", "/volumes", {"volume": {"size": size}}), 400)
        refused(cloud.call("POST", f"/volumes/{volume['id']}/action", {"os-extend": {"new_size": size}}), 400)
        assert cloud.call("GET", "/volumes").json() == before

    def test_a_size_may_be_text(self, cloud: Cloud) -> None:
        answer = cloud.call("POST", "/volumes", {"volume": {"size": "1"}})
        assert answer.status_code == 202
        assert cloud.settled("volumes", answer.json()["volume"]["id"])["size"] == 1
        cloud.delete("volumes", answer.json()["volume"]["id"])

    @pytest.mark.parametrize("name", ["a\x00b", "a\nb", "\x1b[31m", "\x7f", "x" * 256, 5, True, [], {}])
    def test_names(self, cloud: Cloud, volume: dict[str, Any], name: Any) -> None:
        refused(cloud.call("POST", "/volumes", {"volume": {"size": 1, "name": name}}), 400)
        refused(cloud.call("PUT", f"/volumes/{volume['id']}", {"volume": {"name": name}}), 400)
        refused(cloud.call("POST", "/snapshots", {"snapshot": {"volume_id": volume["id"], "name": name}}), 400)
        assert cloud.show("volumes", volume["id"])["name"] == "wire"

    @pytest.mark.parametrize("name", ["", "☃ ü 𝄞", "x" * 255, "'; DROP TABLE volume; --", "%s %(x)s {0}", "<b>&amp;"])
    def test_names_that_are_kept(self, cloud: Cloud, volume: dict[str, Any], name: str) -> None:
        answer = cloud.call("PUT", f"/volumes/{volume['id']}", {"volume": {"name": name, "description": name}})
        assert answer.status_code == 200, answer.text
        assert cloud.show("volumes", volume["id"])["name"] == name
        cloud.call("PUT", f"/volumes/{volume['id']}", {"volume": {"name": "wire"}})

    @pytest.mark.parametrize(
        "metadata", [{"": "x"}, {"k" * 256: "x"}, {"k": "x" * 256}, {"k": 1}, {"k": None}, {"a\x00": "b"}, [], "x", 1]
    )
    def test_metadata(self, cloud: Cloud, volume: dict[str, Any], metadata: Any) -> None:
        for answer in (
            cloud.call("POST", "/volumes", {"volume": {"size": 1, "metadata": metadata}}),
            cloud.call("POST", f"/volumes/{volume['id']}/metadata", {"metadata": metadata}),
        ):
            assert answer.status_code in (400, 413), answer.text
        kept = cloud.call("GET", f"/volumes/{volume['id']}/metadata").json()
        assert kept == {"metadata": {"k": "v"}}

    @pytest.mark.parametrize("body", [{}, {"os-nothing": {}}, {"os-extend": {}, "os-set_bootable": {}}, [], None])
    def test_unknown_actions(self, cloud: Cloud, volume: dict[str, Any], body: Any) -> None:
        refused(cloud.call("POST", f"/volumes/{volume['id']}/action", body), 400)

    def test_unknown_keys_are_refused_from_3_53(self, cloud: Cloud, volume: dict[str, Any]) -> None:
        refused(cloud.call("POST", "/volumes", {"volume": {"size": 1, "extra": 1}}, minor=53), 400, "extra")

    def test_what_is_not_there_to_create_from(self, cloud: Cloud) -> None:
        for values, status in (
            ({"volume_type": "nothing"}, 404),
            ({"snapshot_id": _NOBODY}, 404),
            ({"source_volid": _NOBODY}, 404),
            ({"availability_zone": "mars"}, 400),
            ({"snapshot_id": "x"}, 400),
        ):
            refused(cloud.call("POST", "/volumes", {"volume": {"size": 1, **values}}), status)

    @pytest.mark.parametrize(
        "query",
        [
            *("limit=-1", "limit=x", "offset=-1", "offset=x", "sort=nothing", "sort=name:up", "sort_dir=x"),
            *("sort=name&sort_key=name", "bootable=maybe", "created_at=gt:x", "all_tenants=maybe", "with_count=x"),
        ],
    )
    def test_queries(self, cloud: Cloud, query: str) -> None:
        refused(cloud.call("GET", f"/volumes?{query}", minor=71), 400)

    def test_queries_that_are_no_text(self, cloud: Cloud) -> None:
        refused(cloud.call("GET", "/volumes?name=%ff"), 400)
        refused(cloud.call("GET", "/volumes?name=%00"), 400)
        refused(cloud.call("GET", f"/volumes?marker={_NOBODY}"), 404)


class TestStates:
    """What a resource's state does not allow."""

    def test_illegal_states(self, cloud: Cloud) -> None:
        made = cloud.create(1)
        path = f"/volumes/{made['id']}"
        for status in ("creating", "in-use", "error_deleting", "maintenance", "backing-up", "awaiting-transfer"):
            if status == "in-use":
                refused(cloud.call("POST", f"{path}/action", {"os-reset_status": {"status": status}}), 400)
                continue
            assert cloud.call("POST", f"{path}/action", {"os-reset_status": {"status": status}}).status_code == 202
            refused(cloud.call("DELETE", path), 400, "Invalid volume")
            refused(cloud.call("POST", f"{path}/action", {"os-extend": {"new_size": 2}}), 400, status)
            refused(cloud.call("POST", "/snapshots", {"snapshot": {"volume_id": made["id"]}}), 400)
            refused(cloud.call("POST", "/volumes", {"volume": {"size": 1, "source_volid": made["id"]}}), 400)
        refused(cloud.call("POST", f"{path}/action", {"os-reset_status": {"status": "deleting"}}), 400)
        refused(cloud.call("POST", f"{path}/action", {"os-reset_status": {"status": "nonsense"}}), 400)
        assert cloud.call("POST", f"{path}/action", {"os-force_delete": None}).status_code == 202
        cloud.gone("volumes", made["id"])

    def test_sizes_only_grow(self, cloud: Cloud, volume: dict[str, Any], snapshot: dict[str, Any]) -> None:
        for size in (1, 2):
            answer = cloud.call("POST", f"/volumes/{volume['id']}/action", {"os-extend": {"new_size": size}})
            refused(answer, 400, "New size for extend must be greater")
        refused(cloud.call("POST", "/volumes", {"volume": {"size": 1, "source_volid": volume["id"]}}), 400, "smaller")
        refused(cloud.call("POST", "/volumes", {"volume": {"size": 1, "snapshot_id": snapshot["id"]}}), 400, "smaller")

    def test_a_volume_with_snapshots_stays(
        self, cloud: Cloud, volume: dict[str, Any], snapshot: dict[str, Any]
    ) -> None:
        refused(cloud.call("DELETE", f"/volumes/{volume['id']}"), 400, "have snapshots")
        assert cloud.show("volumes", volume["id"])["status"] == "available"

    def test_a_used_type_stays(self, cloud: Cloud, volume: dict[str, Any]) -> None:
        refused(cloud.call("DELETE", f"/types/{volume['volume_type_id']}"), 400)
        body = {"volume_type": {"name": f"twice-{cloud.project}"}}
        made = cloud.call("POST", "/types", body).json()["volume_type"]
        refused(cloud.call("POST", "/types", body), 409, "already exists")
        assert cloud.call("DELETE", f"/types/{made['id']}").status_code == 202


class TestRoom:
    """Quotas, and pools that are too small."""

    def test_more_than_the_quota(self, service: Service) -> None:
        with project_of(service, "quota") as cloud:
            limits = {"volumes": 2, "gigabytes": 5, "snapshots": 1, "per_volume_gigabytes": 4}
            answer = cloud.call("PUT", f"/os-quota-sets/{cloud.project_id}", {"quota_set": limits})
            assert answer.status_code == 200, answer.text
            refused(
                cloud.call("POST", "/volumes", {"volume": {"size": 5}}),
                413,
                "Requested volume size 5G is larger than maximum allowed limit 4G.",
            )
            one = cloud.create(2)
            answer = cloud.call("POST", "/volumes", {"volume": {"size": 4}})
            message = refused(answer, 413, "exceeds allowed gigabytes quota")
            assert "Requested 4G, quota is 5G and 2G has been consumed." in message
            assert answer.headers["retry-after"] == "0"
            cloud.create(1)
            refused(
                cloud.call("POST", "/volumes", {"volume": {"size": 1}}),
                413,
                "Maximum number of volumes allowed (2) exceeded for quota 'volumes'.",
            )
            refused(cloud.call("POST", f"/volumes/{one['id']}/action", {"os-extend": {"new_size": 5}}), 413)
            cloud.snapshot(one["id"])
            cloud.call("PUT", f"/os-quota-sets/{cloud.project_id}", {"quota_set": {"gigabytes": -1}})
            refused(
                cloud.call("POST", "/snapshots", {"snapshot": {"volume_id": one["id"]}}),
                413,
                "Maximum number of snapshots allowed (1) exceeded",
            )
            used = cloud.call("GET", f"/os-quota-sets/{cloud.project_id}?usage=true").json()["quota_set"]
            assert (used["volumes"]["in_use"], used["gigabytes"]["in_use"], used["snapshots"]["in_use"]) == (2, 5, 1)

    def test_a_volume_that_fits_nowhere_says_why(self, service: Service) -> None:
        with project_of(service, "room") as cloud:
            cloud.call("PUT", f"/os-quota-sets/{cloud.project_id}", {"quota_set": {"gigabytes": -1}})
            answer = cloud.call("POST", "/volumes", {"volume": {"size": 1_000_000}})
            assert answer.status_code == 202
            volume_id = answer.json()["volume"]["id"]
            cloud.settled("volumes", volume_id, "error")
            path = f"/messages?resource_uuid={volume_id}"
            (message,) = cloud.call("GET", path, minor=5).json()["messages"]
            assert message["event_id"] == "VOLUME_VOLUME_001_003"
            assert message["message_level"] == "ERROR"
            assert message["request_id"] == answer.headers["x-openstack-request-id"]
            assert "CapacityFilter" in message["user_message"]
            assert "1000000" in message["user_message"].replace(",", "")
            assert set(message) == {
                *("id", "event_id", "user_message", "message_level", "created_at", "guaranteed_until", "request_id"),
                *("links", "resource_type", "resource_uuid"),
            }
            assert not any(volume_id in name for name in disk.files(service))
            refused(cloud.call("POST", f"/volumes/{volume_id}/action", {"os-extend": {"new_size": 2_000_000}}), 400)
            cloud.delete("volumes", volume_id)
            assert cloud.call("DELETE", f"/messages/{message['id']}", minor=3).status_code == 204
            refused(cloud.call("GET", f"/messages/{message['id']}", minor=3), 404)

    def test_a_disabled_service_gets_nothing(self, service: Service) -> None:
        with project_of(service, "disabled") as cloud:
            volumes = [
                one for one in cloud.call("GET", "/os-services").json()["services"] if one["binary"] == "cinder-volume"
            ]
            body = {"binary": "cinder-volume", "host": volumes[0]["host"]}
            disable = {**body, "disabled_reason": "a test"}
            assert cloud.call("PUT", "/os-services/disable-log-reason", disable).status_code == 200
            try:
                # The scheduler looks at the services' states twice a second.
                eventually(lambda: self._fails(cloud), "a create fails")
            finally:
                assert cloud.call("PUT", "/os-services/enable", body).status_code == 200
            eventually(lambda: not self._fails(cloud), "a create succeeds again")

    @staticmethod
    def _fails(cloud: Cloud) -> bool:
        answer = cloud.call("POST", "/volumes", {"volume": {"size": 1}}, minor=71)
        volume_id = answer.json()["volume"]["id"]
        status = eventually(
            lambda: (now := cloud.show("volumes", volume_id)["status"]) != "creating" and now, "it settles"
        )
        cloud.delete("volumes", volume_id)
        return bool(status == "error")
