"""Quota sets, quota class sets and limits over HTTP."""

from __future__ import annotations

from typing import Any

import pytest

MEMBER = "b" * 32
BASE = {
    "volumes": 10,
    "snapshots": 10,
    "gigabytes": 1000,
    "backups": 10,
    "backup_gigabytes": 1000,
    "per_volume_gigabytes": -1,
    "groups": 10,
}
TYPED = {"volumes___DEFAULT__": -1, "gigabytes___DEFAULT__": -1, "snapshots___DEFAULT__": -1}
AT_LEAST = "be equal or greater than existing resources."
PATH = f"/os-quota-sets/{MEMBER}"


async def _default_id(api: Any) -> str:
    return str((await api.get("/types/default"))[1]["volume_type"]["id"])


async def test_show(api: Any) -> None:
    expected = {"quota_set": {**BASE, **TYPED, "id": MEMBER}}
    assert await api.get(PATH, who="reader") == (200, expected)
    assert await api.get(f"{PATH}?usage=False", who="reader") == (200, expected)
    assert await api.get(f"{PATH}/defaults", who="reader") == (200, expected)
    assert await api.get(PATH, who="stranger") == (
        403,
        {
            "forbidden": {
                "code": 403,
                "message": "Policy doesn't allow volume_extension:quotas:show to be performed.",
            }
        },
    )
    assert (await api.get(f"{PATH}/defaults", who="stranger"))[0] == 403


async def test_use(api: Any) -> None:
    await api.make_volume(await _default_id(api), size_gib=7)
    status, body = await api.get(f"{PATH}?usage=True", who="member")
    assert status == 200
    shown = body["quota_set"]
    assert shown.pop("id") == MEMBER
    assert shown["gigabytes"] == {"limit": 1000, "in_use": 7, "reserved": 0}
    assert shown["volumes___DEFAULT__"] == {"limit": -1, "in_use": 1, "reserved": 0}
    assert shown["groups"] == {"limit": 10, "in_use": 0, "reserved": 0}
    assert shown.keys() == {**BASE, **TYPED}.keys()


async def test_change_and_reset(api: Any) -> None:
    asked = {"tenant_id": MEMBER, "volumes": 5, "gigabytes": "-1", "snapshots___DEFAULT__": 2}
    changed = {**BASE, **TYPED, "volumes": 5, "gigabytes": -1, "snapshots___DEFAULT__": 2}
    assert await api.put(PATH, {"quota_set": asked}) == (200, {"quota_set": changed})
    assert await api.put(PATH, {"quota_set": {"volumes": 6}}) == (200, {"quota_set": {**changed, "volumes": 6}})
    assert (await api.get("/os-quota-sets/" + "c" * 32))[1]["quota_set"]["volumes"] == 10
    assert await api.delete(PATH) == (200, None)
    assert (await api.get(PATH))[1]["quota_set"] == {**BASE, **TYPED, "id": MEMBER}


async def test_a_limit_of_a_type_follows_its_name(api: Any) -> None:
    fast = await api.make_type("fast")
    assert (await api.put(PATH, {"quota_set": {"volumes_fast": 3}}))[1]["quota_set"]["volumes_fast"] == 3
    await api.put(f"/types/{fast}", {"volume_type": {"name": "quick"}})
    shown = (await api.get(PATH))[1]["quota_set"]
    assert shown["volumes_quick"] == 3
    assert "volumes_fast" not in shown
    await api.delete(f"/types/{fast}")
    await api.make_type("quick")
    assert (await api.get(PATH))[1]["quota_set"]["volumes_quick"] == -1


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"volumes": -2}, "volumes must be >= -1"),
        ({"volumes": 2**31}, "volumes must be <= 2147483647"),
        ({"volumes": "many"}, "volumes must be an integer."),
        ({"volumes": 1.5}, "volumes must be an integer."),
        ({"volumes": True}, "volumes must be an integer."),
        ({"volumes": None}, "volumes must be an integer."),
        ({"cores": 1, "force": 1}, "Bad key(s) in quota set: cores, force"),
        ({"volumes_nope": 1}, "Bad key(s) in quota set: volumes_nope"),
        ({}, "does not have enough properties"),
        (
            {"gigabytes": 6},
            f"Quota gigabytes limit must {AT_LEAST} Current usage is 7 and the requested limit is 6.",
        ),
        (
            {"volumes___DEFAULT__": 0},
            f"Quota volumes___DEFAULT__ limit must {AT_LEAST} Current usage is 1 and the requested limit is 0.",
        ),
    ],
)
async def test_refused_changes(api: Any, asked: dict[str, Any], message: str) -> None:
    await api.make_volume(await _default_id(api), size_gib=7)
    status, body = await api.put(PATH, {"quota_set": asked})
    assert status == 400
    assert message in body["badRequest"]["message"]
    assert (await api.get(PATH))[1]["quota_set"] == {**BASE, **TYPED, "id": MEMBER}


async def test_who_may_change(api: Any) -> None:
    assert (await api.put(PATH, {"quota_set": {"volumes": 5}}, who="member"))[0] == 403
    assert (await api.delete(PATH, who="member"))[0] == 403
    assert (await api.get("/os-quota-class-sets/default", who="member"))[0] == 403


async def test_classes(api: Any) -> None:
    path = "/os-quota-class-sets/default"
    assert await api.get(path) == (200, {"quota_class_set": {**BASE, **TYPED, "id": "default"}})
    changed = {**BASE, **TYPED, "volumes": 20, "gigabytes___DEFAULT__": 50}
    asked = {"quota_class_set": {"volumes": 20, "gigabytes___DEFAULT__": "50"}}
    assert await api.put(path, asked) == (200, {"quota_class_set": changed})
    assert (await api.get(PATH))[1]["quota_set"] == {**changed, "id": MEMBER}
    assert (await api.get(f"{PATH}/defaults"))[1]["quota_set"] == {**changed, "id": MEMBER}
    assert (await api.put("/os-quota-class-sets/gold", {"quota_class_set": {"volumes": 99}}))[1] == {
        "quota_class_set": {**changed, "volumes": 99}
    }
    assert (await api.get(PATH))[1]["quota_set"]["volumes"] == 20
    status, body = await api.put(path, {"quota_class_set": {"cores": 1}})
    assert (status, body["badRequest"]["message"]) == (
        400,
        "Invalid input received: Bad key(s) in quota class set: cores",
    )


async def test_limits(api: Any) -> None:
    await api.make_volume(await _default_id(api), size_gib=7)
    await api.put(PATH, {"quota_set": {"volumes": 5}})
    expected = {
        "maxTotalVolumes": 5,
        "maxTotalSnapshots": 10,
        "maxTotalBackups": 10,
        "maxTotalVolumeGigabytes": 1000,
        "maxTotalBackupGigabytes": 1000,
        "totalVolumesUsed": 1,
        "totalGigabytesUsed": 7,
        "totalSnapshotsUsed": 0,
        "totalBackupsUsed": 0,
        "totalBackupGigabytesUsed": 0,
    }
    assert await api.get("/limits", who="member") == (200, {"limits": {"rate": [], "absolute": expected}})

    async def used(query: str, **how: Any) -> int:
        return int((await api.get(f"/limits{query}", **how))[1]["limits"]["absolute"]["totalGigabytesUsed"])

    assert await used("") == 0
    assert await used(f"?project_id={MEMBER}") == 7
    assert await used(f"?tenant_id={MEMBER}") == 7
    assert await used(f"?project_id={MEMBER}", minor=38) == 0
    assert await used(f"?project_id={MEMBER}", who="stranger") == 0
