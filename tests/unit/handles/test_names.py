"""Volumes and snapshots are found by whatever name the API lets them have."""

from __future__ import annotations

import uuid

import pytest

from actors.handles.errors import MissingError, NotAllowedError
from actors.handles.session import Login
from tests.unit.handles.conftest import Near

NAMES = [
    "a&b=c",
    "a/b/../c",
    "100%",
    "%2F%00",
    "?name=x#y",
    "ünïcode 卷 🚀",
    "with, comma; and 'quotes\"",
    "+ and space",
    "x" * 255,
    "卷" * 255,
    str(uuid.uuid4()),
    uuid.uuid4().hex,
]


@pytest.mark.parametrize("name", NAMES, ids=range(len(NAMES)))
async def test_a_volume_and_a_snapshot_are_found_by_their_name(near: Near, name: str) -> None:
    client = near.client()
    other = await client.create_volume(1, name="other")
    volume = await (await client.create_volume(1, name=name)).ready()
    found = await client.volume(name)
    assert (found.id, found.name) == (volume.id, name)
    snapshot = await volume.snapshot(name)
    assert (await client.snapshot(name)).id == snapshot.id
    assert (await client.volume(other.id)).name == "other"


async def test_an_id_comes_before_a_name(near: Near) -> None:
    client = near.client()
    volume = await client.create_volume(1, name="first")
    await client.create_volume(1, name=volume.id)
    assert (await client.volume(volume.id)).name == "first"


async def test_who_may_not_look_is_not_told_that_there_is_nothing(near: Near) -> None:
    with pytest.raises(NotAllowedError):
        await near.client(Login("admin", "wrong", "admin")).volume(str(uuid.uuid4()))


async def test_nothing_of_an_unknown_id(near: Near) -> None:
    with pytest.raises(MissingError, match="with the id or name"):
        await near.client().volume(str(uuid.uuid4()))
