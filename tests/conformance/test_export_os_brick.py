"""os-brick, as Nova and Cinder use it, attaches what the local export tells."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest

from drivers.protocols import Export
from tests.conformance.export_harness import ExportHarness, LocalLoop, stored


@pytest.fixture
def local_connector(tmp_path: Path) -> object:
    """os-brick's connector for `local`, working as root by itself."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Eventlet, which os-brick loads, says of itself that it is deprecated
        import os_brick
        from os_brick.initiator import connector
        from oslo_concurrency import lockutils
        from oslo_config import cfg
    cfg.CONF([])
    os_brick.setup(cfg.CONF)
    lockutils.set_defaults(str(tmp_path))
    cfg.CONF.set_override("lock_path", str(tmp_path), group="os_brick")
    return connector.InitiatorConnector.factory("LOCAL", None)


@pytest.mark.parametrize("way", [LocalLoop], ids=["local-loop"], indirect=True)
async def test_attach_write_detach(way: ExportHarness, export: Export, local_connector) -> None:
    volume_id, path = way.place.volume()
    spec = way.spec(volume_id)
    info = await export.ensure_connection(spec, path)
    assert info.driver_volume_type == "local"
    device = local_connector.connect_volume(dict(info.data))
    assert device["path"] == info.data["device_path"]
    with Path(device["path"]).open("r+b", buffering=0) as stream:
        stream.write(b"brick" + bytes(4091))
    local_connector.disconnect_volume(dict(info.data), device)
    await export.ensure_connection_absent(spec.id, volume_id)
    assert stored(path, 0, 5) == b"brick"
    assert way.place.loop_devices() == []
