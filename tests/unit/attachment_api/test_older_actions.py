"""The older attachment actions of a volume over HTTP."""

from __future__ import annotations

from typing import Any

import pytest

from drivers.vocabulary import FinalError
from tests.unit.attachment_api.conftest import CONNECTOR, Attaching
from tests.unit.volumes.bench import ABSENT, message

SERVER = "12345678-1234-4234-8234-123456789012"
RULE = "volume_extension:volume_actions:"


async def _act(bench: Attaching, volume: str, key: str, value: Any = None, **how: Any) -> None:
    answer = await bench.act(volume, key, value, **how)
    assert (answer.status_code, answer.content) == (202, b""), answer.text


async def test_the_older_flow(bench: Attaching) -> None:
    volume = await bench.placed()
    await _act(bench, volume, "os-reserve")
    assert await bench.standing(volume) == ("attaching", 0)
    answer = await bench.act(volume, "os-initialize_connection", {"connector": CONNECTOR | {"enforce_multipath": True}})
    assert (answer.status_code, answer.json()) == (
        200,
        {
            "connection_info": {
                "driver_volume_type": "fake",
                "data": {
                    "path": f"/memory/{volume}",
                    "discard": True,
                    "access_mode": "rw",
                    "encrypted": False,
                    "cacheable": False,
                    "qos_specs": None,
                    "enforce_multipath": True,
                },
                "enforce_multipath": True,
            }
        },
    )
    assert len(bench.export.specs) == 1
    await _act(bench, volume, "os-attach", {"instance_uuid": SERVER, "mountpoint": "/dev/vdc", "mode": "rw"})
    shown = (await bench.get(f"/volumes/{volume}"))["volume"]
    (attachment,) = shown["attachments"]
    assert (shown["status"], attachment["server_id"], attachment["device"]) == ("in-use", SERVER, "/dev/vdc")
    assert shown["metadata"] == {"readonly": "False", "attached_mode": "rw"}
    await _act(bench, volume, "os-begin_detaching")
    assert (await bench.standing(volume))[0] == "detaching"
    await _act(bench, volume, "os-roll_detaching")
    assert (await bench.standing(volume))[0] == "in-use"
    await _act(bench, volume, "os-begin_detaching")
    await _act(bench, volume, "os-terminate_connection", {"connector": CONNECTOR})
    assert bench.export.specs == {}
    await _act(bench, volume, "os-detach", {"attachment_id": attachment["attachment_id"]})
    shown = (await bench.get(f"/volumes/{volume}"))["volume"]
    assert (shown["status"], shown["attachments"], shown["metadata"]) == ("available", [], {"readonly": "False"})


async def test_reserve_and_back(bench: Attaching) -> None:
    volume = await bench.placed()
    await _act(bench, volume, "os-reserve", {})
    answer = await bench.act(volume, "os-reserve", None)
    expected = "Invalid volume: Volume status must be available to reserve, but the status is attaching."
    assert (answer.status_code, message(answer)) == (400, expected)
    await _act(bench, volume, "os-unreserve")
    await _act(bench, volume, "os-unreserve")
    assert (await bench.standing(volume))[0] == "available"
    answer = await bench.act(volume, "os-begin_detaching", None)
    expected = (
        "Invalid volume: Unable to detach volume. Volume status must be 'in-use' and attach_status must be 'attached' "
        "to detach."
    )
    assert (answer.status_code, message(answer)) == (400, expected)
    await _act(bench, volume, "os-roll_detaching")
    assert (await bench.standing(volume))[0] == "available"


@pytest.mark.parametrize("value", [None, {}, {"attachment_id": None}])
async def test_detach_the_only_one(bench: Attaching, value: Any) -> None:
    volume = await bench.placed()
    await _act(bench, volume, "os-attach", {"host_name": "node-1", "mountpoint": "/mnt"})
    await _act(bench, volume, "os-detach", value)
    assert await bench.standing(volume) == ("available", 0)


async def test_force_detach(bench: Attaching) -> None:
    volume = await bench.placed()
    made = await bench.attached(volume)
    assert (await bench.act(volume, "os-force_detach", {})).status_code == 403
    await _act(bench, volume, "os-force_detach", {"attachment_id": made["id"], "connector": CONNECTOR}, by="admin")
    assert await bench.standing(volume) == ("available", 0)
    assert bench.export.specs == {}


async def test_an_export_that_refuses(bench: Attaching) -> None:
    volume = await bench.placed()
    bench.export.failure = FinalError("no")
    answer = await bench.act(volume, "os-initialize_connection", {"connector": CONNECTOR})
    expected = "Unable to fetch connection information from backend."
    assert (answer.status_code, answer.json()) == (500, {"computeFault": {"code": 500, "message": expected}})
    bench.export.failure = None
    assert (await bench.act(volume, "os-initialize_connection", {"connector": CONNECTOR})).status_code == 200


@pytest.mark.parametrize(
    ("key", "wrong"),
    [
        ("os-attach", None),
        ("os-attach", {}),
        ("os-attach", {"mountpoint": "/mnt"}),
        ("os-attach", {"instance_uuid": SERVER}),
        ("os-attach", {"instance_uuid": "x", "mountpoint": "/mnt"}),
        ("os-attach", {"instance_uuid": None, "host_name": "h", "mountpoint": "/mnt"}),
        ("os-attach", {"host_name": None, "mountpoint": "/mnt"}),
        ("os-attach", {"host_name": "h" * 256, "mountpoint": "/mnt"}),
        ("os-attach", {"host_name": "h", "mountpoint": ""}),
        ("os-attach", {"host_name": "h", "mountpoint": "/" * 256}),
        ("os-attach", {"host_name": "h", "mountpoint": "/mnt", "mode": "x"}),
        ("os-attach", {"host_name": "h", "mountpoint": "/mnt", "else": 1}),
        ("os-detach", "x"),
        ("os-detach", {"attachment_id": "x"}),
        ("os-detach", {"else": 1}),
        ("os-initialize_connection", None),
        ("os-initialize_connection", {}),
        ("os-initialize_connection", {"connector": None}),
        ("os-initialize_connection", {"connector": "x"}),
        ("os-initialize_connection", {"connector": {}}),
        ("os-initialize_connection", {"connector": {}, "else": 1}),
        ("os-terminate_connection", {}),
        ("os-terminate_connection", {"connector": "x"}),
        ("os-terminate_connection", {"connector": None, "else": 1}),
    ],
)
async def test_bodies_that_are_refused(bench: Attaching, key: str, wrong: Any) -> None:
    volume = await bench.placed()
    assert (await bench.act(volume, key, wrong)).status_code == 400
    assert await bench.standing(volume) == ("available", 0)


@pytest.mark.parametrize("wrong", [None, {"attachment_id": 7}, {"connector": "x"}, {"else": 1}])
async def test_force_detach_that_is_refused(bench: Attaching, wrong: Any) -> None:
    assert (await bench.act(await bench.placed(), "os-force_detach", wrong, by="admin")).status_code == 400


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("os-reserve", None),
        ("os-unreserve", None),
        ("os-begin_detaching", None),
        ("os-roll_detaching", None),
        ("os-attach", {"host_name": "h", "mountpoint": "/mnt"}),
        ("os-detach", {}),
        ("os-initialize_connection", {"connector": CONNECTOR}),
        ("os-terminate_connection", {"connector": CONNECTOR}),
    ],
)
async def test_who_may(bench: Attaching, key: str, value: Any) -> None:
    volume = await bench.placed()
    answer = await bench.act(volume, key, value, by="reader")
    expected = f"Policy doesn't allow {RULE}{key.removeprefix('os-')} to be performed."
    assert (answer.status_code, message(answer)) == (403, expected)
    for other in ((volume, "other"), (ABSENT, "member")):
        answer = await bench.act(other[0], key, value, by=other[1])
        assert (answer.status_code, message(answer)) == (404, f"Volume {other[0]} could not be found.")


async def test_extend_in_use(bench: Attaching) -> None:
    made = await bench.at("POST", "/volumes", {"volume": {"size": 1}})
    volume = made.json()["volume"]["id"]
    await bench.past(volume, "creating")
    await bench.attached(volume)
    answer = await bench.act(volume, "os-extend", {"new_size": 2}, at=41)
    assert answer.status_code == 400
    assert (await bench.act(volume, "os-extend", {"new_size": 2}, at=42)).status_code == 202
    await bench.past(volume, "extending")
    shown = (await bench.get(f"/volumes/{volume}"))["volume"]
    assert (shown["status"], shown["size"], len(shown["attachments"])) == ("in-use", 2, 1)
