"""What the host is asked for a connection: protocol and limits by the volume's type."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import Connection, insert

from cluster.attachments.intents import reserve
from cluster.attachments.records import Attachment
from cluster.flows.connection_subject import wanted_protocol
from cluster.qos_specs import intents, limits
from cluster.qos_specs.live import renew
from cluster.qos_specs.records import QosSpec
from cluster.volume_types.records import VolumeType
from drivers.vocabulary import UNLIMITED, ConnectionInfo, ConnectionSpec, Limits
from tests.unit.attachments.conftest import CONNECTOR, Bench

TYPE, QOS, OTHER_TYPE = (f"00000000-0000-4000-9000-{number:012d}" for number in (1, 2, 3))


@pytest.mark.parametrize(
    ("specs", "chosen"),
    [
        ({}, None),
        ({"storage_protocol": "nbd"}, "nbd"),
        ({"capabilities:storage_protocol": "iscsi"}, "iSCSI"),
        ({"storage_protocol": "<in> iSCSI"}, "iSCSI"),
        ({"storage_protocol": "<or> nvmeof <or> nbd <or> iSCSI"}, "nbd"),
        ({"storage_protocol": "NFS"}, "NFS"),
        ({"other:storage_protocol": "NFS"}, None),
    ],
)
def test_the_type_picks_the_protocol(specs: dict[str, str], chosen: str | None) -> None:
    assert wanted_protocol(specs, ["local", "nbd", "iSCSI"]) == chosen


@pytest.mark.parametrize(
    ("consumer", "specs", "expected"),
    [
        ("back-end", {"read_iops_sec": "7"}, Limits(read_iops=7)),
        ("front-end", {"read_iops_sec": "7"}, UNLIMITED),
        ("both", {"total_bytes_sec": "9", "read_bytes_sec": "5", "write_iops_sec": "3"}, Limits(None, None, 3, 9)),
        ("back-end", {"total_iops_sec_per_gb": "10"}, Limits(total_iops=40)),
        ("back-end", {"total_iops_sec_per_gb": "10", "total_iops_sec_per_gb_min": "50"}, Limits(total_iops=50)),
        ("back-end", {"total_iops_sec_per_gb": "10", "total_iops_sec_max": "30"}, Limits(total_iops=30)),
        ("back-end", {"total_iops_sec": "many", "write_bytes_sec": "0", "vendor:key": "1"}, UNLIMITED),
    ],
)
def test_limits_of_the_export(consumer: str, specs: dict[str, str], expected: Limits) -> None:
    assert limits.back_end(consumer, specs, 4) == expected


def test_limits_of_the_consumers_host() -> None:
    specs = {
        "read_iops_sec_per_gb": "10",
        "read_iops_sec_per_gb_min": "1",
        "read_iops_sec_max": "99",
        "vendor:key": "x",
    }
    assert limits.front_end("front-end", specs, 4) == {"read_iops_sec": 40, "vendor:key": "x"}
    assert limits.front_end("both", specs, 4) == {"read_iops_sec": 40, "vendor:key": "x"}
    assert limits.front_end("back-end", specs, 4) is None


async def test_the_host_gets_the_limits_and_the_consumer_the_specs(bench: Bench) -> None:
    now = bench.cluster.outside.now()
    specs = {"total_iops_sec": "100", "vendor:key": "x"}
    kind = {"id": TYPE, "name": "fast", "is_public": True, "extra_specs": {"cacheable": "<is> True"}}

    def write(db: Connection) -> None:
        db.execute(insert(QosSpec).values(id=QOS, name="q", consumer="both", specs=specs, created_at=now))
        db.execute(insert(VolumeType).values(**kind, qos_specs_id=QOS, created_at=now))

    await bench.cluster.store.write(write)
    volume_id = await bench.volume(volume_type_id=TYPE)
    made = await bench.run(reserve, volume_id, connector=CONNECTOR | {"enforce_multipath": True})
    await bench.settle()
    assert bench.export.store.served[made.attachment["id"]].limits == Limits(total_iops=100)
    info = (await bench.row(Attachment, made.attachment["id"])).connection_info
    assert (info["qos_specs"], info["cacheable"], info["enforce_multipath"]) == (specs, True, True)
    assert info["encrypted"] is False


@pytest.mark.parametrize("how", ["first", "again"])
async def test_specs_that_change_while_a_connection_is_made_reach_it(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """Whoever changes them leaves out what is being worked on."""
    now, outside = bench.cluster.outside.now(), bench.cluster.outside

    def write(db: Connection) -> None:
        specs = {"total_iops_sec": "100"}
        db.execute(insert(QosSpec).values(id=QOS, name="q", consumer="back-end", specs=specs, created_at=now))
        values = {"id": TYPE, "name": "t", "is_public": True, "extra_specs": {}, "qos_specs_id": QOS}
        db.execute(insert(VolumeType).values(**values, created_at=now))

    def change(value: str) -> Callable[[Connection], int]:
        def work(db: Connection) -> int:
            intents.change(db, outside, QOS, {"total_iops_sec": value})
            return renew(db, outside, [TYPE])

        return work

    await bench.cluster.store.write(write)
    volume_id = await bench.volume(volume_type_id=TYPE)
    made = await bench.run(reserve, volume_id, connector=CONNECTOR)
    if how == "again":
        await bench.settle()
        assert await bench.cluster.store.write(change("200")) == 1
    real, opened = bench.export.ensure_connection, list[int]()

    async def meanwhile(spec: ConnectionSpec, path: Path) -> ConnectionInfo:
        info = await real(spec, path)
        if not opened:
            opened.append(await bench.cluster.store.write(change("300")))
        return info

    monkeypatch.setattr(bench.export, "ensure_connection", meanwhile)
    for _ in range(2):
        await bench.settle()
    assert opened == [0]
    assert bench.export.store.served[made.attachment["id"]].limits == Limits(total_iops=300)
    assert (await bench.row(Attachment, made.attachment["id"])).connection_info is not None
    assert await bench.messages() == []


async def test_who_was_let_in_is_let_in_again_by_the_protocol_that_he_was_told(bench: Bench) -> None:
    """By another he would not come back, whatever his volume's type says by now."""
    now = bench.cluster.outside.now()
    kind = {"id": TYPE, "name": "t", "is_public": True, "extra_specs": {}, "created_at": now}
    await bench.cluster.store.write(lambda db: db.execute(insert(VolumeType).values(**kind)) and None)
    volume_id = await bench.volume(volume_type_id=TYPE)
    made = await bench.run(reserve, volume_id, connector=CONNECTOR)
    await bench.settle()
    connection_id = made.attachment["id"]
    assert bench.export.store.served[connection_id].protocol is None
    await bench.set(VolumeType, TYPE, extra_specs={"storage_protocol": "nbd"})
    await bench.operate("connection.open", connection_id, volume_id=volume_id, how="again")
    await bench.settle()
    assert bench.export.store.served[connection_id].protocol == "memory"
    assert await bench.messages() == []


async def test_specs_that_change_reach_attached_volumes(bench: Bench) -> None:
    now, outside = bench.cluster.outside.now(), bench.cluster.outside

    def write(db: Connection) -> None:
        for number, kind in enumerate((TYPE, OTHER_TYPE)):
            db.execute(
                insert(QosSpec).values(
                    id=kind, name=f"q{number}", consumer="back-end", specs={"total_iops_sec": "100"}, created_at=now
                )
            )
            values = {"id": kind, "name": f"t{number}", "is_public": True, "extra_specs": {}, "qos_specs_id": kind}
            db.execute(insert(VolumeType).values(**values, created_at=now))

    await bench.cluster.store.write(write)
    volumes = [await bench.volume(volume_type_id=kind) for kind in (TYPE, TYPE, OTHER_TYPE)]
    made = [await bench.run(reserve, volume_id, connector=CONNECTOR) for volume_id in volumes[:1] + volumes[2:]]
    await bench.run(reserve, volumes[1])
    await bench.settle()
    before = [await bench.row(Attachment, one.attachment["id"]) for one in made]

    async def change(specs: dict[str, str | None]) -> int:
        def work(db: Connection) -> int:
            intents.change(db, outside, TYPE, specs)
            return renew(db, outside, [TYPE])

        opened = await bench.cluster.store.write(work)
        await bench.settle()
        return opened

    def served() -> list[Limits]:
        return [bench.export.store.served[one.attachment["id"]].limits for one in made]

    assert await change({"total_iops_sec": "250"}) == 1
    assert served() == [Limits(total_iops=250), Limits(total_iops=100)]
    after = [await bench.row(Attachment, one.attachment["id"]) for one in made]
    assert [row.attached_at for row in after] == [row.attached_at for row in before]
    assert after[0].connection_info == before[0].connection_info

    bench.export.keeps_not = "it knows no bytes"
    await change({"total_bytes_sec": "9"})
    assert served()[0] == Limits(total_iops=250), "what cannot be kept leaves the consumer as he is"
    assert (await bench.states(volumes[0]))[0] == "attaching"
    assert len(await bench.messages()) == 1
