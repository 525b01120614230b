"""Services, zones, pools and capabilities: as reported, and over HTTP."""

from __future__ import annotations

from typing import Any

import pytest

from cluster.outside import stamp
from cluster.services import intents, queries

STATS = {
    "volume_backend_name": "nvme",
    "pool_name": "p1",
    "vendor_name": "Pumice",
    "driver_version": "1.0",
    "storage_protocol": "iSCSI",
    "total_capacity_gb": 100.0,
    "thin_provisioning_support": True,
    "label:ray.io/zone": "a",
}


async def _report(api: Any, host: str, zone: str = "nova", binary: str = "cinder-volume", **more: Any) -> str:
    values = {"binary": binary, "host": host, "availability_zone": zone, "node_labels": {}, "backend_state": "up"}
    return str(await api.room.store.write(lambda db: intents.report_service(db, api.room.outside, **(values | more))))


async def _pools(api: Any, host: str, pools: dict[str, dict[str, Any]]) -> None:
    await api.room.store.write(lambda db: intents.report_pools(db, api.room.outside, host, pools))


async def test_a_report_is_repeated(api: Any) -> None:
    first = await _report(api, "n1@nvme")
    api.clock.seconds += 100
    assert await _report(api, "n1@nvme", "east", backend_state="down") == first
    (service,) = await api.room.store.read(lambda db: queries.services(db, api.clock.seconds, 12.0))
    assert (service.availability_zone, service.backend_state, service.up) == ("east", "down", True)


async def test_the_list(api: Any) -> None:
    await _report(api, "head", binary="cinder-scheduler", backend_state=None)
    await _report(api, "n1@nvme")
    heard = stamp(api.clock.seconds)
    status, body = await api.get("/os-services")
    assert status == 200
    scheduler, volume = body["services"]
    assert volume | {"updated_at": None} == {
        "binary": "cinder-volume",
        "host": "n1@nvme",
        "zone": "nova",
        "status": "enabled",
        "state": "up",
        "updated_at": None,
        "disabled_reason": None,
        "cluster": None,
        "replication_status": "disabled",
        "active_backend_id": None,
        "frozen": False,
        "backend_state": "up",
    }
    assert volume["updated_at"][:19] == heard[:19]
    assert set(scheduler) == {
        "binary",
        "host",
        "zone",
        "status",
        "state",
        "updated_at",
        "disabled_reason",
        "cluster",
    }
    assert "backend_state" not in (await api.get("/os-services", minor=48))[1]["services"][1]
    assert "cluster" not in (await api.get("/os-services", minor=6))[1]["services"][0]
    api.clock.seconds += api.room.settings.timing.service_down + 1
    assert {each["state"] for each in (await api.get("/os-services"))[1]["services"]} == {"down"}


@pytest.mark.parametrize(
    ("query", "hosts"),
    [
        ("", ["n1@nvme", "n1@file", "n10@nvme", "n1"]),
        ("?host=n1", ["n1@nvme", "n1@file", "n1"]),
        ("?host=n1@nvme", ["n1@nvme"]),
        ("?host=n%25", []),
        ("?binary=cinder-scheduler", ["n1"]),
        ("?host=n1&binary=cinder-backup", []),
    ],
)
async def test_the_list_of_some(api: Any, query: str, hosts: list[str]) -> None:
    for host in ("n1@nvme", "n1@file", "n10@nvme"):
        await _report(api, host)
    await _report(api, "n1", binary="cinder-scheduler")
    assert [each["host"] for each in (await api.get(f"/os-services{query}"))[1]["services"]] == hosts


async def test_disable_and_enable(api: Any) -> None:
    await _report(api, "n1@nvme")
    which = {"host": "n1@nvme", "binary": "cinder-volume"}
    assert await api.put("/os-services/disable-log-reason", {**which, "disabled_reason": " disk swap "}) == (
        200,
        {**which, "service": "", "status": "disabled", "disabled": True, "disabled_reason": "disk swap"},
    )
    (service,) = (await api.get("/os-services"))[1]["services"]
    assert (service["status"], service["disabled_reason"]) == ("disabled", "disk swap")
    await _report(api, "n1@nvme")
    assert (await api.get("/os-services"))[1]["services"][0]["status"] == "disabled"
    old = {"host": "n1@nvme", "service": "cinder-volume"}
    assert await api.put("/os-services/enable", old) == (
        200,
        {**old, "binary": "", "status": "enabled", "disabled": False},
    )
    (service,) = (await api.get("/os-services"))[1]["services"]
    assert (service["status"], service["disabled_reason"]) == ("enabled", None)
    assert (await api.put("/os-services/disable", which))[1]["disabled"] is True


@pytest.mark.parametrize(
    ("action", "body", "status", "message"),
    [
        ("enable", {"binary": "cinder-volume"}, 400, "Invalid input received: Host field is missing."),
        ("enable", {"host": "n1@nvme"}, 400, None),
        ("enable", {"host": "no space", "binary": "x"}, 400, None),
        ("enable", {"host": "h", "binary": "x", "disabled_reason": "y"}, 400, None),
        ("disable-log-reason", {"host": "h", "binary": "x", "disabled_reason": "  "}, 400, None),
        (
            "disable",
            {"host": "n9", "binary": "cinder-volume"},
            404,
            "Service cinder-volume could not be found on host n9.",
        ),
    ],
)
async def test_refusals(api: Any, action: str, body: dict[str, Any], status: int, message: str | None) -> None:
    answered, fault = await api.put(f"/os-services/{action}", body)
    assert answered == status
    if message is not None:
        assert next(iter(fault.values()))["message"] == message
    assert (await api.put(f"/os-services/{action}", body, who="member"))[0] == 403


async def test_zones(api: Any) -> None:
    assert await api.get("/os-availability-zone", who="member") == (200, {"availabilityZoneInfo": []})
    await _report(api, "n1@nvme", "west")
    await _report(api, "n2@nvme", "east")
    await _report(api, "n3@nvme", "east")
    await _report(api, "head", "head-only", binary="cinder-scheduler")
    for host in ("n1@nvme", "n2@nvme"):
        await api.put("/os-services/disable", {"host": host, "binary": "cinder-volume"})
    expected = [
        {"zoneName": "east", "zoneState": {"available": True}},
        {"zoneName": "west", "zoneState": {"available": False}},
    ]
    assert await api.get("/os-availability-zone", who="member") == (200, {"availabilityZoneInfo": expected})


async def test_pools(api: Any) -> None:
    await _pools(api, "n1@nvme", {"n1@nvme#p1": STATS, "n1@nvme#old": {}})
    await _pools(api, "n1@nvme", {"n1@nvme#p1": STATS, "n1@nvme#p2": {**STATS, "label:ray.io/zone": "b"}})
    await _pools(api, "n2@file", {"n2@file#p": {**STATS, "volume_backend_name": "file"}})
    every = [{"name": name} for name in ("n1@nvme#p1", "n1@nvme#p2", "n2@file#p")]
    assert await api.get("/scheduler-stats/get_pools") == (200, {"pools": every})
    status, body = await api.get("/scheduler-stats/get_pools?detail=True&name=n1@nvme%23p1")
    assert (status, body) == (
        200,
        {"pools": [{"name": "n1@nvme#p1", "capabilities": STATS}]},
    )
    assert len((await api.get("/scheduler-stats/get_pools?name=n1@nvme%23p1", minor=27))[1]["pools"]) == 3
    assert (await api.get("/scheduler-stats/get_pools?volume_backend_name=file", minor=28))[1] == {"pools": [every[2]]}
    assert (await api.get("/scheduler-stats/get_pools?volume_backend_name=file"))[0] == 400
    assert (await api.get("/scheduler-stats/get_pools?detail=maybe"))[0] == 400
    assert (await api.get("/scheduler-stats/get_pools", who="member"))[0] == 403


async def test_pools_for_a_type(api: Any) -> None:
    await _pools(api, "n1@nvme", {"n1@nvme#p1": STATS, "n1@nvme#p2": {**STATS, "label:ray.io/zone": "b"}})
    await _pools(api, "n2@file", {"n2@file#p": {**STATS, "volume_backend_name": "file"}})
    await api.make_type("nvme-b", extra_specs={"volume_backend_name": "nvme", "label:ray.io/zone": "in(b,c)"})
    await api.make_type("thin", extra_specs={"thin_provisioning_support": "<is> True", "storage_protocol": "iscsi"})
    await api.make_type("never", extra_specs={"capabilities:no_such_thing": "1"})
    await api.make_type("nonsense", extra_specs={"label:x": "in("})

    async def names(volume_type: str, minor: int = 71) -> list[str]:
        _, body = await api.get(f"/scheduler-stats/get_pools?volume_type={volume_type}", minor=minor)
        return [pool["name"] for pool in body["pools"]]

    assert await names("nvme-b") == ["n1@nvme#p2"]
    assert len(await names("thin")) == 3
    assert await names("never") == []
    assert await names("nonsense") == []
    assert len(await names("never", minor=34)) == 3
    assert (await api.get("/scheduler-stats/get_pools?volume_type=nope"))[0] == 404


async def test_capabilities(api: Any) -> None:
    await _report(api, "n1@nvme")
    await _pools(api, "n1@nvme", {"n1@nvme#p1": STATS})
    status, body = await api.get("/capabilities/n1@nvme")
    assert status == 200
    assert body["namespace"] == "OS::Storage::Capabilities::cinder-volume.n1@nvme"
    assert (body["vendor_name"], body["storage_protocol"]) == ("Pumice", "iSCSI")
    assert body["properties"]["thin_provisioning"]["type"] == "boolean"
    assert await api.get("/capabilities/n9") == (
        404,
        {"itemNotFound": {"code": 404, "message": "Can't find service: n9"}},
    )
