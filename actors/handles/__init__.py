"""Volumes for Python programs on the cluster.

    from actors.handles import connect

    client = connect()
    volume = client.create_volume(10, name="data").ready()
    with volume.mounted("rw") as path:
        (path / "hello").write_text("hello")

The one package that re-exports: it is what users import. `aconnect` gives the same as coroutines.
"""

from __future__ import annotations

from actors.handles.asynchronous import AsyncClient, AsyncSnapshot, AsyncVolume
from actors.handles.blocking import Client, Snapshot, Volume
from actors.handles.connecting import aconnect, connect
from actors.handles.errors import (
    ConflictError,
    FailedError,
    HandleError,
    MissingError,
    NotAllowedError,
    NotInTimeError,
    OverQuotaError,
    RefusedError,
    UnreachableError,
)

__all__ = [
    "AsyncClient",
    "AsyncSnapshot",
    "AsyncVolume",
    "Client",
    "ConflictError",
    "FailedError",
    "HandleError",
    "MissingError",
    "NotAllowedError",
    "NotInTimeError",
    "OverQuotaError",
    "RefusedError",
    "Snapshot",
    "UnreachableError",
    "Volume",
    "aconnect",
    "connect",
]
