"""In the guest: os-brick attaches, grows and detaches what the export `iscsi` tells, by the kernel's initiator.

Not collected by itself: `test_kernel.py` runs it in the guest.
"""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from actors import processes
from drivers.vocabulary import GIB
from tests.conformance.export_harness import Iscsi, Place, stored

# What Eventlet, which os-brick loads, says of each process that is started.
pytestmark = pytest.mark.filterwarnings("ignore:Using fork:DeprecationWarning")
BLOCK = 64 << 10


@pytest.fixture
def way(monkeypatch: pytest.MonkeyPatch) -> Iterator[Iscsi]:
    place = Place()
    monkeypatch.setenv(processes.MARK, place.mark)
    yield Iscsi(place)
    place.leave()


@pytest.fixture
def connector(tmp_path: Path) -> Any:
    """os-brick's, working as root by itself."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Eventlet, which os-brick loads, says of itself that it is deprecated
        import os_brick
        from os_brick.initiator import connector
        from os_brick.privileged import default
        from oslo_concurrency import lockutils
        from oslo_config import cfg
    cfg.CONF([])
    os_brick.setup(cfg.CONF)
    default.set_client_mode(False)
    lockutils.set_defaults(str(tmp_path))
    cfg.CONF.set_override("lock_path", str(tmp_path), group="os_brick")
    return connector.InitiatorConnector.factory("ISCSI", None, use_multipath=False, device_scan_attempts=5)


async def test_attach_write_extend_detach(way: Iscsi, connector: Any) -> None:
    export = way.export()
    await export.open()
    volume_id, path = way.place.volume()
    spec = way.spec(volume_id)
    info = dict((await export.ensure_connection(spec, path)).data)

    device = _timed("attach", lambda: connector.connect_volume(info))
    disk = Path(device["path"]).resolve()
    assert disk.name.startswith("sd"), device
    _write(disk, 1 << 20, b"\x5a" * BLOCK)
    assert stored(path, 1 << 20, BLOCK) == b"\x5a" * BLOCK
    assert _size(disk) == GIB

    os.truncate(path, 2 * GIB)
    await export.resized(volume_id, path)
    # tgtd ends the session to grow the LUN; until the initiator is back, os-brick would find no session to look at.
    _timed("session back", lambda: _until(_logged_in))
    assert _timed("extend", lambda: connector.extend_volume(info)) == 2 * GIB
    assert _size(disk) == 2 * GIB
    _write(disk, 2 * GIB - BLOCK, b"\xa5" * BLOCK)
    assert stored(path, 2 * GIB - BLOCK, BLOCK) == b"\xa5" * BLOCK

    _timed("detach", lambda: connector.disconnect_volume(info, device))
    assert not disk.exists()
    await export.ensure_connection_absent(spec.id, volume_id)
    assert await export.connections() == []


def _logged_in() -> bool:
    states = [file.read_text().strip() for file in Path("/sys/class/iscsi_session").glob("session*/state")]
    return states == ["LOGGED_IN"]


def _timed(what: str, work: Callable[[], Any]) -> Any:
    began = time.monotonic()
    result = work()
    print(f"{what} {time.monotonic() - began:.1f} s")
    return result


def _until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def _write(disk: Path, offset: int, data: bytes) -> None:
    with disk.open("r+b") as stream:
        stream.seek(offset)
        stream.write(data)
        stream.flush()
        os.fsync(stream.fileno())


def _size(disk: Path) -> int:
    with disk.open("rb") as stream:
        return stream.seek(0, os.SEEK_END)
