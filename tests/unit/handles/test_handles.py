"""Typed handles: the same rights and quotas as the REST API, errors in words, a way into tasks."""

from __future__ import annotations

import pytest

from actors.handles.asynchronous import AsyncVolume
from actors.handles.errors import (
    FailedError,
    HandleError,
    MissingError,
    NotAllowedError,
    OverQuotaError,
    RefusedError,
)
from actors.handles.session import Login
from drivers.vocabulary import FinalError
from tests.unit.handles.conftest import Near, copied


async def test_the_life_of_a_volume(near: Near) -> None:
    client = near.client()
    volume = await (await client.create_volume(2, name="data", metadata={"a": "b"})).ready()
    assert (volume.name, volume.size_gib, volume.status, volume.host) == ("data", 2, "available", "h1")
    assert volume.locality() == {"label_selector": {"pumice.io/host": "h1"}}
    snapshot = await (await volume.snapshot("then")).ready()
    assert (snapshot.volume_id, snapshot.size_gib, snapshot.name) == (volume.id, 2, "then")
    assert (await volume.extend(5)).size_gib == 5
    copy = await (await snapshot.clone("copy", size_gib=3)).ready()
    clone = await (await volume.clone()).ready()
    assert (copy.size_gib, clone.size_gib) == (3, 5)
    assert {one.id for one in await client.volumes()} == {volume.id, copy.id, clone.id}
    assert [one.id for one in await client.volumes(name="copy")] == [copy.id]
    assert [one.id for one in await client.snapshots()] == [snapshot.id]
    assert (await client.volume("data")).id == (await client.volume(volume.id)).id == volume.id
    with pytest.raises(RefusedError, match="have snapshots"):
        await volume.delete()
    for resource in (snapshot, volume, copy, clone):
        await resource.delete()
        await resource.delete()
    assert await near.backend.inventory() == []
    with pytest.raises(MissingError):
        await volume.refresh()


async def test_more_than_a_page_is_listed(near: Near) -> None:
    client = near.client()
    made = [await client.create_volume(1, name=f"v{number}") for number in range(7)]
    assert [one.id for one in await client.volumes(limit="3")] == [one.id for one in reversed(made)]


async def test_handles_go_into_tasks(near: Near) -> None:
    client = near.client(near.login())
    volume = await (await client.create_volume(1, name="data")).ready()
    there = copied(volume)
    assert type(there) is AsyncVolume
    assert (there.id, there.status) == (volume.id, "available")
    snapshot = copied(await (await there.snapshot()).ready())
    assert [one.id for one in await copied(client).snapshots()] == [snapshot.id]


async def test_a_password_is_not_shown_and_that_of_nobody_does_not_travel(near: Near) -> None:
    import pickle

    login = near.login()
    client = near.client(login)
    volume = await client.create_volume(1)
    assert login.password is not None
    assert login.password not in repr(volume) + repr(login)
    assert login.password.encode() not in pickle.dumps(await near.client().create_volume(1))


async def test_quotas_are_those_of_the_api(near: Near) -> None:
    client = near.client()
    with pytest.raises(OverQuotaError, match="gigabytes"):
        await client.create_volume(1001)


async def test_rights_are_those_of_the_api(near: Near) -> None:
    with pytest.raises(NotAllowedError):
        await near.client(Login("admin", "wrong", "admin")).volumes()
    with pytest.raises(NotAllowedError):
        await near.client(Login("nobody", "x", "admin")).volumes()


async def test_no_program_of_the_cluster_is_let_in_where_the_settings_say_so(near: Near) -> None:
    from actors.handles.asynchronous import AsyncClient
    from actors.handles.session import Session
    from cluster.settings import IdentitySettings
    from serve_app.app import build
    from serve_app.identity.embedded import EmbeddedAuthenticator
    from serve_app.identity.signing_key import ensure_signing_key
    from serve_app.identity.tokens import TokenSigner
    from serve_app.wire.route import Room
    from tests.unit.handles import conftest

    cluster = near.cluster
    settings = cluster.settings.model_copy(update={"identity": IdentitySettings(cluster_user="")})
    room = Room(store=cluster.store, settings=settings, outside=cluster.outside, ring=lambda: None)
    signer = TokenSigner(ensure_signing_key(settings.state_dir))
    authenticator = EmbeddedAuthenticator(cluster.store, cluster.outside, signer, "http://localhost/identity/v3")
    conftest._SITES["closed"] = build(room, authenticator)
    with pytest.raises(NotAllowedError, match="give username, password and project_name"):
        await AsyncClient(Session(conftest.NearTransport("closed"), Login())).volumes()


async def test_over_http_nobody_is_a_program_of_the_cluster(near: Near) -> None:
    import httpx

    from tests.unit.handles import conftest

    transport = httpx.ASGITransport(app=conftest._SITES[near.name])
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as http:
        answer = await http.post("/identity/v3/auth/tokens", json=Login().body())
    assert answer.status_code == 401


async def test_a_failure_says_why(near: Near, monkeypatch: pytest.MonkeyPatch) -> None:
    async def refuse(*_args: object) -> None:
        raise FinalError("the disk is on fire")

    monkeypatch.setattr(near.backend, "ensure_volume", refuse)
    volume = await near.client().create_volume(1)
    with pytest.raises(FailedError, match=rf"volume {volume.id} is error: .*disk is on fire"):
        await volume.ready()


async def test_errors_have_the_apis_sentence_and_the_request(near: Near) -> None:
    client = near.client()
    with pytest.raises(RefusedError, match=r"size.*\(req-[0-9a-f-]{36}\)$"):
        await client.create_volume(0)
    with pytest.raises(MissingError, match="there are no volumes with the id or name 'nowhere'"):
        await client.volume("nowhere")
    await client.create_volume(1, name="twice")
    await client.create_volume(1, name="twice")
    with pytest.raises(RefusedError, match=r"there are 2 volumes with the name .twice.; name one by its id: "):
        await client.volume("twice")
    volume = await client.create_volume(1)
    volume.seen["os-vol-host-attr:host"] = None
    with pytest.raises(HandleError, match="has no host yet"):
        volume.locality()


async def test_a_token_that_ran_out_is_renewed(near: Near) -> None:
    client = near.client()
    await client.volumes()
    client._session._token = "worthless"
    assert await client.volumes() == []


async def test_fan_out_copies_one_snapshot(near: Near) -> None:
    client = near.client()
    volume = await (await client.create_volume(1, name="data")).ready()
    copies = await volume.fan_out(3)
    assert [copy.name for copy in copies] == ["data-0", "data-1", "data-2"]
    assert {copy.status for copy in copies} == {"available"}
    snapshot_ids = {copy.seen["snapshot_id"] for copy in copies}
    assert len(snapshot_ids) == 1


async def test_a_fan_out_that_fails_leaves_nothing(near: Near) -> None:
    client = near.client()
    volume = await (await client.create_volume(1, name="data")).ready()
    with pytest.raises(OverQuotaError):
        await volume.fan_out(10)
    assert [one.id for one in await client.volumes()] == [volume.id]
    assert await client.snapshots() == []
