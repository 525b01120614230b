"""Where exports that listen on TCP are, also when the node's address on the storage network is another by now."""

from __future__ import annotations

import os

import pytest

from drivers import export_registry
from drivers.protocols import Export, Portals
from drivers.vocabulary import ConnectionInfo, ConnectionSpec, Portal
from tests.conformance.export_harness import HOST, ExportHarness, Iscsi, NbdTcp, NbdUnix, stored

OLD, NEW = "127.0.0.1", "127.0.0.2"
by_tcp = pytest.mark.parametrize("way", [NbdTcp, Iscsi], ids=["nbd-tcp", "iscsi"], indirect=True)


def told(info: ConnectionInfo) -> Portal:
    """Where the consumer is told to connect."""
    address, _, port = str(info.data.get("target_portal") or f"{info.data['host']}:{info.data['port']}").rpartition(":")
    return Portal(address, int(port))


async def portal(export: Export, spec: ConnectionSpec) -> Portal | None:
    assert isinstance(export, Portals)
    return await export.portal(spec.id)


async def at(way: ExportHarness, address: str) -> Export:
    """Another life of the export, on a node that has this address."""
    export = export_registry.create(way.protocol, way.options, way.place.directory, "b", HOST, address=address)
    await export.open()
    return export


@by_tcp
async def test_it_is_where_the_storage_network_is(way: ExportHarness) -> None:
    volume_id, path = way.place.volume()
    spec, export = way.spec(volume_id), await at(way, NEW)
    info = await export.ensure_connection(spec, path)
    assert told(info).address == NEW
    assert await portal(export, spec) == told(info)
    await way.write(info, 0, b"a" * 4096)
    assert stored(path, 0, 4096) == b"a" * 4096


@by_tcp
async def test_who_is_served_stays_where_its_consumer_knows_it_until_it_ends(way: ExportHarness) -> None:
    volume_id, path = way.place.volume()
    spec = way.spec(volume_id)
    before = await (await at(way, OLD)).ensure_connection(spec, path)
    moved = await at(way, NEW)
    assert await portal(moved, spec) == told(before)
    assert await moved.ensure_connection(spec, path) == before
    data = os.urandom(4096)
    await way.write(before, 0, data)
    assert stored(path, 0, 4096) == data
    way.place.kill_daemons()
    restarted = await at(way, NEW)
    after = await restarted.ensure_connection(spec, path)
    assert told(after).address == NEW
    assert await portal(restarted, spec) == told(after)
    await way.write(after, 4096, data)
    assert stored(path, 4096, 4096) == data


@pytest.mark.parametrize("way", [NbdUnix], ids=["nbd-unix"], indirect=True)
async def test_who_comes_by_a_socket_has_no_portal(way: ExportHarness, export: Export) -> None:
    volume_id, path = way.place.volume()
    spec = way.spec(volume_id)
    await export.ensure_connection(spec, path)
    assert await portal(export, spec) is None
