"""Limits of local devices, as measured: a limit of N gives N within ten percent. And that they end with the device."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from drivers import export_registry
from drivers.exports import cgroup_io, clearing, loop_device
from drivers.protocols import Export
from drivers.vocabulary import (
    UNLIMITED,
    BackendUnavailableError,
    ConnectionInfo,
    ConnectionItem,
    ConnectionSpec,
    Limits,
    UnsupportedError,
)
from tests.conformance.export_harness import ExportHarness, LocalLoop, run

local = pytest.mark.parametrize("way", [LocalLoop], ids=["local-loop"], indirect=True)

# Low enough for any machine: a limit that the machine itself does not reach would prove nothing.
LIMITS = [
    (Limits(read_iops=150), "read", 4096, 450, 150.0),
    (Limits(write_iops=100, read_iops=9000), "write", 4096, 300, 100.0),
    (Limits(read_bytes=8 << 20), "read", 64 << 10, 384, 128.0),
    (Limits(write_bytes=4 << 20, write_iops=9000), "write", 64 << 10, 192, 64.0),
]


async def _rate(way: ExportHarness, info: ConnectionInfo, direction: str, size: int, count: int) -> float:
    """Requests a second of eight at a time, as measured over some three seconds."""
    target = way.target(info)
    orders = ["-c", str(count), "-d", "8", "-s", str(size), "-t", "none", *(["-w"] if direction == "write" else [])]
    said = await run(["qemu-img", "bench", *orders, *target.arguments(), target.image])
    found = re.search(r"Run completed in ([\d.]+) seconds", said)
    assert found, said
    return count / float(found[1])


async def _assert_rate(
    way: ExportHarness, info: ConnectionInfo, direction: str, size: int, count: int, wanted: float
) -> None:
    """Within the promised ten percent. A throttle bounds from above: what is too slow on a machine that is busy with
    something else is measured again, twice at most."""
    for _ in range(3):
        rate = await _rate(way, info, direction, size, count)
        if rate >= wanted * 0.9:
            break
    assert wanted * 0.9 <= rate <= wanted * 1.1


def _rules(device: str) -> list[str]:
    """The lines of cgroup v1 and v2 about the device, wherever the kernel shows them."""
    name = f"{loop_device.MAJOR}:{Path(device).name.removeprefix('loop')}"
    files = [*Path("/sys/fs/cgroup").rglob("blkio.throttle.*_device"), *Path("/sys/fs/cgroup").rglob("io.max")]
    return [line for path in files for line in path.read_text().splitlines() if line.split()[0] == name]


@local
@pytest.mark.parametrize(("limits", "direction", "size", "count", "wanted"), LIMITS)
async def test_limits_hold(
    way: ExportHarness, export: Export, limits: Limits, direction: str, size: int, count: int, wanted: float
) -> None:
    volume_id, path = way.place.volume()
    assert export.cannot_keep(limits) == ""
    info = await export.ensure_connection(way.spec(volume_id, limits=limits), path)
    await _assert_rate(way, info, direction, size, count, wanted)
    other = "read" if direction == "write" else "write"
    assert await _rate(way, info, other, size, count) > 2 * wanted, "the other direction is free"


@local
async def test_limits_change_while_in_use_and_a_neighbour_has_none(way: ExportHarness, export: Export) -> None:
    volume_id, path = way.place.volume()
    spec = way.spec(volume_id, limits=Limits(write_iops=100))
    info = await export.ensure_connection(spec, path)
    neighbour = await export.ensure_connection(way.spec(volume_id), path)
    session = await way.session(info)
    try:
        assert await session.order("write -P 1 0 4096", 20)
        await _assert_rate(way, info, "write", 4096, 200, 100.0)
        assert await _rate(way, neighbour, "write", 4096, 400) > 200
        assert await export.ensure_connection(replace(spec, limits=Limits(write_iops=250)), path) == info
        await _assert_rate(way, info, "write", 4096, 500, 250.0)
        assert await export.ensure_connection(replace(spec, limits=UNLIMITED), path) == info
        assert await _rate(way, info, "write", 4096, 800) > 500
        assert _rules(info.data["device_path"]) == []
        assert await session.order("write -P 2 0 4096", 20), "the session went on all the time"
    finally:
        await session.close()


@local
async def test_limits_go_with_their_connection(way: ExportHarness, export: Export) -> None:
    """Whoever has the number of its device next is not limited; nor is he after a device that its consumer closed
    last, with nobody of Pumice there to see it."""
    volume_id, path = way.place.volume()
    spec = way.spec(volume_id, limits=Limits(read_iops=50, write_bytes=1 << 20))
    device = Path((await export.ensure_connection(spec, path)).data["device_path"])
    assert len(_rules(str(device))) > 0
    await export.ensure_connection_absent(spec.id, volume_id)
    assert _rules(str(device)) == []

    device = Path((await export.ensure_connection(spec, path)).data["device_path"])
    with device.open("rb"):
        with pytest.raises(BackendUnavailableError, match="still open"):
            await export.ensure_connection_absent(spec.id, volume_id)
        assert len(_rules(str(device))) > 0, "whoever still has it open is still limited"
    assert loop_device.look(device) is None
    assert len(_rules(str(device))) > 0
    successor = way.export()
    await successor.open()
    assert _rules(str(device)) == []
    assert list(way.place.directory.rglob("limits-*")) == []


@local
async def test_a_number_that_is_used_again_has_the_limits_of_its_new_user(way: ExportHarness, export: Export) -> None:
    """Two exports of one machine: what the one left behind does not limit the other's consumer, and what it clears
    later are not the other's limits."""
    volume_id, path = way.place.volume()
    left, limited = (way.spec(volume_id, limits=Limits(read_iops=number)) for number in (50, 70))
    device = Path((await export.ensure_connection(left, path)).data["device_path"])
    loop_device.unbind(loop_device.LoopDevice(device, "", _tag(device), read_only=False, leaving=False), 1)
    other = export_registry.create("local", {}, way.place.directory / "other", "b", "this-node")
    await other.open()

    async def again(spec: ConnectionSpec) -> list[str]:
        found = Path((await other.ensure_connection(spec, path)).data["device_path"])
        assert found == device
        return _rules(str(found))

    unlimited = way.spec(volume_id)
    assert await again(unlimited) == []
    await other.ensure_connection_absent(unlimited.id, volume_id)
    rules = await again(limited)
    assert any("70" in rule for rule in rules)
    assert await export.connections() == []
    assert _rules(str(device)) == rules
    await other.ensure_connection_absent(limited.id, volume_id)
    assert _rules(str(device)) == []


@local
async def test_cgroups_that_are_new_get_the_limits(way: ExportHarness, export: Export) -> None:
    volume_id, path = way.place.volume()
    spec = way.spec(volume_id, limits=Limits(write_iops=60))
    device = (await export.ensure_connection(spec, path)).data["device_path"]
    before = _rules(device)
    cgroup = cgroup_io.controller().root / f"pumice-test-{volume_id}"
    cgroup.mkdir()
    try:
        assert _rules(device) == before
        await export.connections()
        assert len(_rules(device)) == len(before) + 1
    finally:
        cgroup.rmdir()
    await export.connections()
    assert _rules(device) == before


@local
async def test_limits_that_cannot_be_repaired_stop_nobody(
    way: ExportHarness, export: Export, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """As where cgroups have been mounted for reading only since."""
    volume_id, path = way.place.volume()
    spec = way.spec(volume_id, limits=Limits(read_iops=50))
    device = (await export.ensure_connection(spec, path)).data["device_path"]

    class Refusing:
        root = Path("/")

        def why_not(self) -> str:
            return "they are mounted for reading only"

        def ensure(self, device: str, limits: Limits) -> None:
            raise BackendUnavailableError(f"cannot write the rules of {device}: {limits}")

    with monkeypatch.context() as patched:
        patched.setattr(cgroup_io, "controller", lambda **_: Refusing())
        successor = way.export()
        await successor.open()
        assert await successor.connections() == [ConnectionItem(spec.id, volume_id)]
        assert [entry.message for entry in caplog.records if "limits of local devices are not kept" in entry.message]
        with pytest.raises(UnsupportedError, match="for reading only"):
            await successor.ensure_connection(way.spec(volume_id, limits=Limits(read_iops=50)), path)
    assert len(_rules(device)) > 0


@local
async def test_an_instance_that_ends_leaves_no_limit(way: ExportHarness, export: Export) -> None:
    volume_id, path = way.place.volume()
    device = Path(
        (await export.ensure_connection(way.spec(volume_id, limits=Limits(read_iops=50)), path)).data["device_path"]
    )
    with device.open("rb"):
        assert len(clearing.clear(way.place.directory)) == 1, "it is still open"
        assert _rules(str(device)) == []
    assert list(way.place.directory.rglob("limits-*")) == []


@local
@pytest.mark.parametrize("ends", ["instance", "choice"])
async def test_limits_in_cgroups_that_were_chosen_end_where_the_choice_is_not_known(
    way: ExportHarness, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ends: str
) -> None:
    """Version two limits no cgroup below the top unless it was chosen; a tree of files stands for it."""
    (tmp_path / "cgroup.controllers").write_text("io\n")
    top, nested = tmp_path / "a.slice" / "io.max", tmp_path / "a.slice" / "b.service" / "io.max"
    nested.parent.mkdir(parents=True)
    for file, text in (("mounts", f"30 29 0:26 / {tmp_path} rw - cgroup2 cgroup rw\n"), ("own", "0::/a.slice\n")):
        (tmp_path / file).write_text(text)
        monkeypatch.setattr(cgroup_io, f"_{file.upper()}", tmp_path / file)
    for rules in (top, nested):
        rules.write_text("")
    way.options = {"cgroups": ("a.slice/b.service",)}  # type: ignore[misc]
    export = way.export()
    await export.open()
    volume_id, path = way.place.volume()
    spec = way.spec(volume_id, limits=Limits(read_iops=50))
    await export.ensure_connection(spec, path)
    assert ("riops=50" in nested.read_text(), top.read_text()) == (True, "")
    if ends == "instance":
        assert clearing.clear(way.place.directory) == []
        assert list(way.place.directory.rglob("limits-*")) == []
    else:
        way.options = {}  # type: ignore[misc]
        await way.export().open()
        assert "riops=50" in top.read_text()
        assert clearing.clear(way.place.directory) == []
    assert "riops=max" in nested.read_text()
    assert "riops=50" not in top.read_text()


@local
@pytest.mark.parametrize(
    ("options", "limits", "because"),
    [
        ({}, Limits(total_iops=100), "no total"),
        ({}, Limits(total_bytes=1 << 20), "no total"),
        ({"device": "path"}, Limits(read_iops=100), "set device = loop"),
        ({"cgroups": ("there-is-none.slice",)}, Limits(read_iops=100), "cgroup"),
    ],
)
async def test_limits_that_cannot_be_kept_are_refused(
    way: ExportHarness, options: dict[str, object], limits: Limits, because: str
) -> None:
    way.options = options  # type: ignore[misc]
    export = way.export()
    await export.open()
    volume_id, path = way.place.volume()
    assert because in export.cannot_keep(limits)
    with pytest.raises(UnsupportedError, match=because):
        await export.ensure_connection(way.spec(volume_id, limits=limits), path)
    assert (way.place.loop_devices(), await export.connections()) == ([], [])


def _tag(device: Path) -> str:
    found = loop_device.look(device)
    assert found is not None
    return found.tag
