"""Who may come in, and where the keys to it lie: nobody else; not in arguments, logs or readable files."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from drivers.protocols import Export
from drivers.vocabulary import ConnectionInfo, ConnectionSpec
from tests.conformance.export_harness import ExportHarness, Iscsi, NbdTcp, RefusedError, stored

network = pytest.mark.parametrize("way", [NbdTcp, Iscsi], ids=lambda harness: harness.name, indirect=True)


@network
async def test_the_wrong_consumer_is_refused(way: ExportHarness, export: Export) -> None:
    (mine_id, mine_path), (other_id, other_path) = way.place.volume(), way.place.volume()
    mine = await export.ensure_connection(way.spec(mine_id), mine_path)
    other = await export.ensure_connection(way.spec(other_id), other_path)
    await way.write(mine, 0, b"m" * 4096)
    await way.write(other, 0, b"o" * 4096)
    impostors = way.impostors(mine, other)
    assert len(impostors) >= 5
    for impostor in impostors:
        with pytest.raises(RefusedError):
            await way.io(impostor, "read 0 4096", read_only=True)
        with pytest.raises(RefusedError):
            await way.io(impostor, "write -P 7 0 4096")
    assert stored(other_path, 0, 4096) == b"o" * 4096
    assert await way.read(other, 0, 4096) == b"o" * 4096


@network
async def test_a_removed_consumer_is_refused(way: ExportHarness, export: Export) -> None:
    volume_id, path = way.place.volume()
    spec, other = way.spec(volume_id), way.spec(volume_id)
    info = await export.ensure_connection(spec, path)
    await export.ensure_connection(other, path)
    await way.write(info, 0, b"m" * 4096)
    await export.ensure_connection_absent(spec.id, volume_id)
    with pytest.raises(RefusedError):
        await way.read(info, 0, 4096)


async def test_secrets_stay_secret(way: ExportHarness, export: Export) -> None:
    volume_id, path = way.place.volume()
    spec = way.spec(volume_id)
    info = await export.ensure_connection(spec, path)
    await way.write(info, 0, b"m" * 4096)
    for impostor in way.impostors(info, info)[:1]:
        with pytest.raises(RefusedError):
            await way.io(impostor, "read 0 4096")
    secrets = _secrets(spec, info)
    for process in Path("/proc").iterdir():
        if process.name.isdigit() and process.name != str(os.getpid()):
            for what in ("cmdline", "environ"):
                try:
                    said = (process / what).read_bytes()
                except OSError:
                    continue
                assert not any(secret in said for secret in secrets), f"{what} of {process.name}"
    for entry in (way.place.directory / "exports").rglob("*"):
        mode = stat.S_IMODE(entry.stat().st_mode)
        if entry.is_dir():
            assert mode == 0o700, entry
        elif entry.is_file():
            holds = any(secret in entry.read_bytes() for secret in secrets)
            assert not holds or (entry.name == "keys.psk" and mode == 0o600), f"{entry} of mode {mode:o}"
    assert not any(secret.decode() in text for secret in secrets for text in (str(spec), str(info)))
    await export.ensure_connection_absent(spec.id, volume_id)
    for entry in (way.place.directory / "exports").rglob("*"):
        assert not (entry.is_file() and any(secret in entry.read_bytes() for secret in secrets)), entry


def _secrets(spec: ConnectionSpec, info: ConnectionInfo) -> list[bytes]:
    told = [info.data[key] for key in ("psk_key", "auth_password") if key in info.data]
    return [secret.encode() for secret in (spec.secret, *told)]
