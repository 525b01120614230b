"""Attachments over HTTP: the bodies, the answers, who sees them, and what their volumes show."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any

import pytest

from cluster.attachments.records import Attachment
from cluster.journal import outcome
from cluster.qos_specs import intents as qos_specs
from drivers.vocabulary import FinalError, UnsupportedError
from serve_app.attachments import waiting
from tests.unit.attachment_api.conftest import CONNECTOR, Attaching
from tests.unit.volumes.bench import ABSENT, PROJECT, message

SERVER = "12345678-1234-4234-8234-123456789012"


async def test_reserve_touches_no_backend(bench: Attaching) -> None:
    volume = await bench.placed()
    made = await bench.reserve(volume, instance_uuid=SERVER)
    assert made == {
        "id": made["id"],
        "status": "reserved",
        "instance": SERVER,
        "volume_id": volume,
        "attached_at": "",
        "detached_at": "",
        "attach_mode": "null",
        "connection_info": {},
    }
    assert (bench.export.specs, bench.rings) == ({}, [])
    assert await bench.standing(volume) == ("reserved", 0)
    assert (await bench.at("GET", f"/attachments/{made['id']}")).json() == {"attachment": made}
    answer = await bench.at("DELETE", f"/attachments/{made['id']}")
    assert (answer.status_code, answer.json()) == (200, {"attachments": []})
    assert await bench.standing(volume) == ("available", 0)
    assert bench.rings == []


async def test_the_way_of_nova(bench: Attaching) -> None:
    volume = await bench.placed()
    made = await bench.reserve(volume, instance_uuid=SERVER)
    path = f"/attachments/{made['id']}"
    answer = await bench.at("PUT", path, {"attachment": {"connector": CONNECTOR}})
    assert answer.status_code == 200
    shown = answer.json()["attachment"]
    assert (shown["status"], shown["attach_mode"], shown["instance"]) == ("attaching", "rw", SERVER)
    assert shown["connection_info"] == {
        "driver_volume_type": "fake",
        "path": f"/memory/{volume}",
        "discard": True,
        "attachment_id": made["id"],
        "access_mode": "rw",
        "encrypted": False,
        "cacheable": False,
        "qos_specs": None,
        "enforce_multipath": False,
    }
    assert list(bench.export.specs) == [made["id"]]
    assert await bench.standing(volume) == ("attaching", 0)
    answer = await bench.at("POST", f"{path}/action", {"os-complete": None})
    assert (answer.status_code, answer.content) == (204, b"")
    assert await bench.standing(volume) == ("in-use", 1)
    assert (await bench.at("GET", path)).json()["attachment"]["status"] == "attached"
    answer = await bench.at("DELETE", path)
    assert (answer.status_code, answer.json()) == (200, {"attachments": []})
    assert bench.export.specs == {}
    assert await bench.standing(volume) == ("available", 0)
    gone = f"Volume attachment could not be found with filter: attachment_id = {made['id']}."
    for method, body in (("GET", None), ("DELETE", None), ("PUT", {"attachment": {"connector": CONNECTOR}})):
        answer = await bench.at(method, path, body)
        assert (answer.status_code, message(answer)) == (404, gone)
    assert (await bench.at("POST", f"{path}/action", {"os-complete": None})).status_code == 404


async def test_connect_at_once(bench: Attaching) -> None:
    volume = await bench.placed()
    made = await bench.reserve(volume, connector=CONNECTOR | {"enforce_multipath": True}, mode="ro")
    assert (made["status"], made["attach_mode"]) == ("attaching", "ro")
    assert (made["connection_info"]["access_mode"], made["connection_info"]["enforce_multipath"]) == ("ro", True)
    assert bench.export.specs[made["id"]].mode == "ro"


async def test_over_http_nobody_is_a_node_of_the_cluster(bench: Attaching) -> None:
    made = await bench.reserve(await bench.placed(), connector=CONNECTOR | {"pumice_node": "abc"})
    assert bench.export.specs[made["id"]].connector == CONNECTOR


async def test_without_anybody_to_connect(bench: Attaching) -> None:
    for connector in (None, {}):
        made = await bench.reserve(await bench.placed(), connector=connector)
        assert made["status"] == "reserved"
    assert bench.export.specs == {}


async def test_what_the_consumer_is_to_enforce(bench: Attaching) -> None:
    specs = {"read_iops_sec_per_gb": "10", "read_iops_sec_max": "25", "vendor": "x"}
    qos = await bench.store.write(
        lambda db: qos_specs.create(db, bench.outside, name="q", consumer="both", specs=specs)
    )
    await bench.set_type(bench.type_id, qos_specs_id=qos, extra_specs={"cacheable": "<is> True"})
    made = await bench.reserve(await bench.placed(size_gib=3), connector=CONNECTOR)
    assert made["connection_info"]["qos_specs"] == {"read_iops_sec": 25, "vendor": "x"}
    assert made["connection_info"]["cacheable"] is True
    assert bench.export.specs[made["id"]].limits.read_iops == 25


@pytest.mark.parametrize(
    "attachment",
    [
        None,
        [],
        {},
        {"volume_uuid": "x"},
        {"volume_uuid": None},
        {"volume_uuid": ABSENT, "else": 1},
        {"volume_uuid": ABSENT, "instance_uuid": "x"},
        {"volume_uuid": ABSENT, "instance_uuid": None},
        {"volume_uuid": ABSENT, "connector": "host"},
        {"volume_uuid": ABSENT, "connector": []},
        {"volume_uuid": ABSENT, "connector": {"host": "h" * 256}},
        {"volume_uuid": ABSENT, "connector": {"host": {"name": "h"}}},
        {"volume_uuid": ABSENT, "mode": "rx"},
        {"volume_uuid": ABSENT, "mode": None},
    ],
)
async def test_bodies_that_are_refused(bench: Attaching, attachment: Any) -> None:
    assert (await bench.at("POST", "/attachments", {"attachment": attachment})).status_code == 400


async def test_the_mode_came_with_354(bench: Attaching) -> None:
    body = {"attachment": {"volume_uuid": await bench.placed(), "mode": "ro"}}
    answer = await bench.at("POST", "/attachments", body, at=53)
    assert answer.status_code == 400
    assert "Additional properties are not allowed ('mode' was unexpected)" in message(answer)


async def test_connectors_that_are_refused(bench: Attaching) -> None:
    made = await bench.reserve(await bench.placed())
    for attachment in (None, {}, {"connector": None}, {"connector": {}}, {"connector": "x"}, {"connector": {}, "a": 1}):
        answer = await bench.at("PUT", f"/attachments/{made['id']}", {"attachment": attachment})
        assert answer.status_code == 400, attachment


@pytest.mark.parametrize(
    ("method", "path", "body", "since"),
    [
        ("GET", "/attachments", None, 27),
        ("GET", "/attachments/detail", None, 27),
        ("GET", f"/attachments/{ABSENT}", None, 27),
        ("POST", "/attachments", {}, 27),
        ("PUT", f"/attachments/{ABSENT}", {}, 27),
        ("DELETE", f"/attachments/{ABSENT}", None, 27),
        ("POST", f"/attachments/{ABSENT}/action", {"os-complete": None}, 44),
    ],
)
async def test_microversions(bench: Attaching, method: str, path: str, body: Any, since: int) -> None:
    answer = await bench.at(method, path, body, at=since - 1)
    expected = f"API version 3.{since - 1} is not supported on this method."
    assert (answer.status_code, message(answer)) == (404, expected)
    answer = await bench.at(method, path, body, at=since)
    assert "is not supported" not in answer.text


async def test_who_may(bench: Attaching) -> None:
    volume = await bench.placed()
    made = await bench.attached(volume)
    path = f"/attachments/{made['id']}"
    for method, url, body, rule in (
        ("POST", "/attachments", {"attachment": {"volume_uuid": volume}}, "attachment_create"),
        ("PUT", path, {"attachment": {"connector": CONNECTOR}}, "attachment_update"),
        ("DELETE", path, None, "attachment_delete"),
        ("POST", f"{path}/action", {"os-complete": None}, "attachment_complete"),
    ):
        answer = await bench.at(method, url, body, by="reader")
        assert (answer.status_code, message(answer)) == (403, f"Policy doesn't allow volume:{rule} to be performed.")
        answer = await bench.at(method, url, body, by="other")
        assert answer.status_code == 404, url
    assert (await bench.at("GET", path, by="reader")).status_code == 200
    assert (await bench.at("GET", path, by="other")).status_code == 404
    assert list(bench.export.specs) == [made["id"]]


async def test_a_bootable_volume_of_many(bench: Attaching, monkeypatch: pytest.MonkeyPatch) -> None:
    volume = await bench.placed(multiattach=True, bootable=True)
    await bench.attached(volume)
    monkeypatch.setattr("serve_app.attachments.routes.allows", lambda rule, _caller: "bootable" not in rule)
    answer = await bench.at("POST", "/attachments", {"attachment": {"volume_uuid": volume}})
    expected = "Policy doesn't allow volume:multiattach_bootable_volume to be performed."
    assert (answer.status_code, message(answer)) == (403, expected)


async def test_what_is_left(bench: Attaching) -> None:
    volume = await bench.placed(multiattach=True)
    one = await bench.attached(volume)
    two = await bench.attached(volume, {"host": "node-2"}, instance_uuid=SERVER)
    assert await bench.standing(volume) == ("in-use", 2)
    answer = await bench.at("DELETE", f"/attachments/{one['id']}")
    left = {"id": two["id"], "status": "attached", "instance": SERVER, "volume_id": volume}
    assert answer.json() == {"attachments": [left]}
    assert list(bench.export.specs) == [two["id"]]
    assert await bench.standing(volume) == ("in-use", 1)


async def _ids(bench: Attaching, query: str = "", **how: Any) -> list[str]:
    answer = await bench.at("GET", f"/attachments{query}", **how)
    assert answer.status_code == 200, answer.text
    assert list(answer.json()) == ["attachments"]
    return [each["id"] for each in answer.json()["attachments"]]


async def test_lists(bench: Attaching) -> None:
    volumes = [await bench.placed() for _ in range(3)]
    a, b = [(await bench.reserve(volume, instance_uuid=SERVER))["id"] for volume in volumes[:2]]
    c = (await bench.attached(volumes[2]))["id"]
    assert await _ids(bench) == [c, b, a]
    assert await _ids(bench, "?sort=created_at:asc&limit=2") == [a, b]
    assert await _ids(bench, f"?sort=created_at:asc&marker={b}") == [c]
    assert await _ids(bench, "?limit=0") == []
    assert (await bench.at("GET", f"/attachments?marker={ABSENT}")).status_code == 404
    assert await _ids(bench, f"?volume_id={volumes[0]}") == [a]
    assert await _ids(bench, f"?instance_id={SERVER}") == [b, a]
    assert await _ids(bench, "?status=attached") == [c]
    assert await _ids(bench, "?attach_status=reserved") == [b, a]
    assert await _ids(bench, "?attach_status~=attach") == [c]
    assert await _ids(bench, "?colour=red", by="admin") == []
    assert await _ids(bench, "?colour=red", at=30) == [c, b, a]
    for query in ("?colour=red", "?connector=x", "?attach_status~=a&mode=rw"):
        assert (await bench.at("GET", f"/attachments{query}")).status_code == 400
    assert (await bench.at("GET", "/attachments?attach_status~=attach", at=33)).status_code == 400
    short = (await bench.at("GET", "/attachments?status=attached")).json()["attachments"]
    assert short == [{"id": c, "status": "attached", "instance": None, "volume_id": volumes[2]}]
    (long,) = (await bench.at("GET", "/attachments/detail?status=attached")).json()["attachments"]
    assert long == (await bench.at("GET", f"/attachments/{c}")).json()["attachment"]


async def test_lists_of_projects(bench: Attaching) -> None:
    own = (await bench.reserve(await bench.placed()))["id"]
    theirs = await bench.placed(project_id="b" * 32)
    answer = await bench.at("POST", "/attachments", {"attachment": {"volume_uuid": theirs}}, by="other")
    other = answer.json()["attachment"]["id"]
    assert await _ids(bench) == [own]
    assert await _ids(bench, "?all_tenants=1") == [own]
    assert await _ids(bench, by="other") == [other]
    assert await _ids(bench, by="admin") == [own]
    assert await _ids(bench, "?all_tenants=1", by="admin") == [other, own]
    assert (await bench.at("GET", f"/attachments/{other}", by="admin")).status_code == 200


async def test_what_the_volume_shows(bench: Attaching) -> None:
    volume, free = await bench.placed(), await bench.placed()
    made = await bench.attached(volume, instance_uuid=SERVER)
    shown = (await bench.get(f"/volumes/{volume}"))["volume"]
    (seen,) = shown["attachments"]
    assert seen == {
        "id": volume,
        "attachment_id": made["id"],
        "volume_id": volume,
        "server_id": SERVER,
        "host_name": None,
        "device": "/dev/vdb",
        "attached_at": made["attached_at"],
    }
    assert made["attached_at"]
    for by, host in (("admin", "node-1"), ("service", "node-1"), ("reader", None)):
        pages = (await bench.get("/volumes/detail", by=by))["volumes"]
        assert {each["id"]: each["attachments"] for each in pages} == {volume: [seen | {"host_name": host}], free: []}
    answer = await bench.call("PUT", f"/volumes/{volume}", {"volume": {"name": "n"}})
    assert answer.json()["volume"]["attachments"] == [seen]


async def test_a_page_asks_for_all_attachments_at_once(bench: Attaching, monkeypatch: pytest.MonkeyPatch) -> None:
    from serve_app.volumes import routes

    for _ in range(3):
        await bench.attached(await bench.placed())
    asked: list[int] = []
    real = routes.of_volumes

    def counted(db: Any, ids: list[str]) -> Any:
        asked.append(len(ids))
        return real(db, ids)

    monkeypatch.setattr(routes, "of_volumes", counted)
    pages = (await bench.get("/volumes/detail"))["volumes"]
    assert [len(each["attachments"]) for each in pages] == [1, 1, 1]
    assert asked == [3]
    await bench.get("/volumes")
    assert asked == [3]


async def test_an_export_that_refuses(bench: Attaching) -> None:
    volume = await bench.placed()
    bench.export.failure = FinalError("no")
    answer = await bench.at("POST", "/attachments", {"attachment": {"volume_uuid": volume, "connector": CONNECTOR}})
    assert (answer.status_code, answer.json()) == (
        500,
        {"computeFault": {"code": 500, "message": "Unable to create attachment for volume."}},
    )
    (left,) = (await bench.at("GET", "/attachments")).json()["attachments"]
    assert left["status"] == "error_attaching"
    assert bench.export.specs == {}


async def test_a_consumer_that_no_export_serves(bench: Attaching) -> None:
    made = await bench.reserve(await bench.placed())
    path = f"/attachments/{made['id']}"
    answer = await bench.at("PUT", path, {"attachment": {"connector": {"initiator": "iqn.2026-01.io.pumice:x"}}})
    assert answer.status_code == 400
    assert message(answer).startswith("Invalid input received: no export of h1@memory serves this connector")
    assert (await bench.at("GET", path)).json()["attachment"]["status"] == "error_attaching"
    bench.export.failure = UnsupportedError("not read-only")
    answer = await bench.at("PUT", path, {"attachment": {"connector": CONNECTOR}})
    assert (answer.status_code, message(answer)) == (400, "Invalid input received: not read-only")
    bench.export.failure = None
    assert (await bench.at("PUT", path, {"attachment": {"connector": CONNECTOR}})).status_code == 200


async def test_a_backend_that_does_not_answer(bench: Attaching, monkeypatch: pytest.MonkeyPatch) -> None:
    volume = await bench.placed()
    made = await bench.reserve(volume)
    path, body = f"/attachments/{made['id']}", {"attachment": {"connector": CONNECTOR}}
    bench.export.gate.clear()
    with monkeypatch.context() as shorter:
        shorter.setattr(waiting, "carry_out", partial(outcome.carry_out, timeout_seconds=0.05))
        answer = await bench.at("PUT", path, body)
    expected = "Unable to update the attachment. The backend has not answered yet; the operation goes on."
    assert (answer.status_code, message(answer)) == (500, expected)
    assert (await bench.at("GET", path)).json()["attachment"]["status"] == "attaching"
    again = asyncio.create_task(bench.at("PUT", path, body))
    bench.export.gate.set()
    shown = (await again).json()["attachment"]
    assert (shown["status"], shown["connection_info"]["path"]) == ("attaching", f"/memory/{volume}")
    assert list(bench.export.specs) == [made["id"]]


async def test_times_and_owner(bench: Attaching) -> None:
    made = await bench.attached(await bench.placed())
    row = await bench.row(Attachment, made["id"])
    assert row is not None
    assert (row["project_id"], row["attached_host"], row["mountpoint"]) == (PROJECT, "node-1", "/dev/vdb")
    assert made["attached_at"] == row["attached_at"]
