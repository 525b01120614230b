"""What is counted, what limits it, and that nobody gets past a limit."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, insert

from cluster.errors import OverQuotaError
from cluster.quotas.records import QuotaClassLimit
from cluster.quotas.usage import Claim, Usage, check, defaults, limits, stored_names, usage
from cluster.settings import QuotaSettings
from cluster.volumes.records import Volume
from tests.unit.volumes.bench import DEFAULT_TYPE, OTHER, PROJECT, Bench, message, open_bench

NOTHING = Usage()


async def _usage(bench: Bench, project: str = PROJECT) -> dict[str, Usage]:
    found = await bench.store.read(lambda db: usage(db, project))
    return {name: used for name, used in found.items() if used != NOTHING}


async def _create(bench: Bench, **volume: Any) -> Any:
    return await bench.call("POST", "/volumes", {"volume": volume})


async def test_everything_is_named_and_zero_at_first(bench: Bench) -> None:
    await bench.volume_type("gold")
    found = await bench.store.read(lambda db: usage(db, PROJECT))
    names = {"volumes", "snapshots", "gigabytes", "backups", "backup_gigabytes", "groups", "per_volume_gigabytes"}
    names |= {f"{kind}_{name}" for kind in ("volumes", "gigabytes", "snapshots") for name in ("gold", "__DEFAULT__")}
    assert found == dict.fromkeys(names, NOTHING)


async def test_what_counts(bench: Bench) -> None:
    gold = await bench.volume_type("gold")
    volume = await bench.volume(size_gib=3)
    await bench.volume(size_gib=2, target_size_gib=5, volume_type_id=gold)
    await bench.volume(size_gib=7, target_size_gib=6, status="error")
    await bench.volume(size_gib=100, consumes_quota=False)
    await bench.volume(size_gib=100, project_id=OTHER)
    await bench.snapshot(volume, size_gib=3)
    await bench.snapshot(volume, size_gib=100, consumes_quota=False)
    assert await _usage(bench) == {
        "volumes": Usage(3),
        "gigabytes": Usage(15, 3),
        "snapshots": Usage(1),
        "volumes___DEFAULT__": Usage(2),
        "gigabytes___DEFAULT__": Usage(13),
        "snapshots___DEFAULT__": Usage(1),
        "volumes_gold": Usage(1),
        "gigabytes_gold": Usage(2, 3),
    }


async def test_limits_come_from_the_project_then_the_class_then_the_settings(bench: Bench) -> None:
    gold = await bench.volume_type("gold")
    await bench.limit("volumes", 3)
    await bench.limit(f"gigabytes:{gold}", 7)

    def work(db: Connection) -> None:
        for resource, limit in (("volumes", 5), ("snapshots", 6), (f"volumes:{gold}", 2)):
            values = {"class_name": "default", "resource": resource, "hard_limit": limit}
            db.execute(insert(QuotaClassLimit).values(**values))

    await bench.store.write(work)
    quotas = QuotaSettings()
    own = await bench.store.read(lambda db: limits(db, quotas, PROJECT))
    assert (own["volumes"], own["snapshots"], own["gigabytes"], own["per_volume_gigabytes"]) == (3, 6, 1000, -1)
    assert (own["volumes_gold"], own["gigabytes_gold"], own["snapshots_gold"]) == (2, 7, -1)
    general = await bench.store.read(lambda db: defaults(db, quotas))
    assert (general["volumes"], general["gigabytes_gold"], general["volumes_gold"]) == (5, -1, 2)
    assert (await bench.store.read(stored_names))["gigabytes_gold"] == f"gigabytes:{gold}"
    await bench.set_type(gold, name="silver")
    assert (await bench.store.read(lambda db: limits(db, quotas, PROJECT)))["gigabytes_silver"] == 7


async def test_the_sentences(bench: Bench) -> None:
    volume = await bench.volume(size_gib=8)
    await bench.limit("gigabytes", 10)
    answer = await _create(bench, size=5)
    expected = (
        "Requested volume or snapshot exceeds allowed gigabytes quota. "
        "Requested 5G, quota is 10G and 8G has been consumed."
    )
    assert (answer.status_code, set(answer.json()), message(answer)) == (413, {"overLimit"}, expected)
    assert answer.headers["retry-after"] == "0"
    snapshot = await bench.call("POST", "/snapshots", {"snapshot": {"volume_id": volume}})
    assert message(snapshot) == expected.replace("Requested 5G", "Requested 8G")
    extend = await bench.act(volume, "os-extend", {"new_size": 11})
    assert message(extend) == expected.replace("Requested 5G", "Requested 3G")
    await bench.limit("volumes", 1)
    assert (
        message(await _create(bench, size=1)) == "Maximum number of volumes allowed (1) exceeded for quota 'volumes'."
    )
    await bench.limit("gigabytes", -1)
    await bench.limit("snapshots", 0)
    snapshot = await bench.call("POST", "/snapshots", {"snapshot": {"volume_id": volume}})
    assert message(snapshot) == "Maximum number of snapshots allowed (0) exceeded"
    await bench.limit("volumes", -1)
    await bench.limit(f"volumes:{DEFAULT_TYPE}", 1)
    expected = "Maximum number of volumes allowed (1) exceeded for quota 'volumes___DEFAULT__'."
    assert message(await _create(bench, size=1)) == expected
    await bench.limit("per_volume_gigabytes", 9)
    expected = "Requested volume size 10G is larger than maximum allowed limit 9G."
    assert message(await _create(bench, size=10)) == expected
    assert message(await bench.act(volume, "os-extend", {"new_size": 10})) == expected
    row = await bench.row(Volume, volume)
    assert row is not None
    assert row["status"] == "available"
    assert not bench.rings


async def test_an_extend_counts_towards_the_volumes_own_project(bench: Bench) -> None:
    theirs = await bench.volume(project_id=OTHER)
    await bench.limit("gigabytes", 3, OTHER)
    assert (await bench.act(theirs, "os-extend", {"new_size": 4}, by="admin")).status_code == 413
    assert (await bench.act(theirs, "os-extend", {"new_size": 3}, by="admin")).status_code == 202
    assert (await _usage(bench, OTHER))["gigabytes"] == Usage(1, 2)


async def test_what_does_not_consume_quota_may_grow(bench: Bench) -> None:
    volume = await bench.volume(consumes_quota=False)
    await bench.limit("gigabytes", 0)
    assert (await bench.act(volume, "os-extend", {"new_size": 4})).status_code == 202


async def test_concurrent_creates_never_exceed(bench: Bench) -> None:
    await bench.limit("volumes", 7)
    answers = await asyncio.gather(*(_create(bench, size=1) for _ in range(30)))
    assert sorted(answer.status_code for answer in answers) == [202] * 7 + [413] * 23
    assert (await _usage(bench))["volumes"] == Usage(7)
    assert len(bench.rings) == 7


async def test_concurrent_snapshots_and_extends_share_the_gigabytes(bench: Bench) -> None:
    volumes = [await bench.volume() for _ in range(10)]
    await bench.limit("gigabytes", 17)
    calls = [bench.act(volume, "os-extend", {"new_size": 3}) for volume in volumes[:5]]
    calls += [bench.call("POST", "/snapshots", {"snapshot": {"volume_id": volume}}) for volume in volumes[5:]]
    answers = await asyncio.gather(*calls)
    assert {answer.status_code for answer in answers} == {202, 413}
    assert (await _usage(bench))["gigabytes"].total in (16, 17)


_ROWS = st.lists(st.tuples(st.integers(1, 9), st.integers(0, 12), st.booleans(), st.booleans()), max_size=8)


@settings(max_examples=25, deadline=None)
@given(rows=_ROWS, limit=st.integers(-1, 60), wanted=st.integers(1, 20))
def test_check_allows_exactly_what_fits(template: Path, rows: list[Any], limit: int, wanted: int) -> None:
    async def run() -> None:
        with tempfile.TemporaryDirectory() as directory:
            bench = open_bench(template, Path(directory))
            used = 0
            for size, target, counts, is_snapshot in rows:
                volume = await bench.volume(size_gib=size, target_size_gib=target, consumes_quota=counts)
                used += max(size, target) if counts else 0
                if is_snapshot:
                    await bench.snapshot(volume, size_gib=size, consumes_quota=counts)
                    used += size if counts else 0
            quotas = QuotaSettings(volumes=-1, gigabytes=limit)
            claim = Claim(volumes=1, gigabytes=wanted, volume_type_id=DEFAULT_TYPE, size_gib=wanted)
            if limit < 0 or used + wanted <= limit:
                await bench.store.write(lambda db: check(db, quotas, PROJECT, claim))
            else:
                with pytest.raises(OverQuotaError):
                    await bench.store.write(lambda db: check(db, quotas, PROJECT, claim))
            await bench.store.close()

    asyncio.run(run())
