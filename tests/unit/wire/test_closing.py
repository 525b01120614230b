"""At the end of a replica everything that it has opened is closed, whatever one of them makes of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cluster.outside import Outside
from cluster.settings import Settings
from cluster.store.open import open_store
from serve_app.app import build, nova_of
from serve_app.identity.noauth import NoAuthenticator
from serve_app.wire.route import Room


class Watched(NoAuthenticator):
    """Says when it is closed."""

    def __init__(self, closed: list[str]) -> None:
        self._closed = closed

    async def close(self) -> None:
        self._closed.append("authenticator")


async def test_all_are_closed_once(tmp_path: Path) -> None:
    closed: list[str] = []

    async def broken() -> None:
        closed.append("broken")
        raise OSError("it was gone already")

    async def last() -> None:
        closed.append("last")

    settings = Settings(state_dir=tmp_path)
    store = open_store(settings.database)
    site = build(Room(store, settings, Outside(), lambda: None), Watched(closed), closing=(broken, last))
    coming = [{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}]
    sent: list[str] = []
    seen: list[list[str]] = []

    async def receive() -> Any:
        seen.append(list(closed))
        return coming.pop(0)

    async def send(message: Any) -> None:
        sent.append(message["type"])

    await site({"type": "lifespan"}, receive, send)
    await store.close()
    assert seen == [[], []]
    assert closed == ["authenticator", "broken", "last"]
    assert sent == ["lifespan.startup.complete", "lifespan.shutdown.complete"]


def test_only_a_cloud_with_a_keystone_has_a_nova(tmp_path: Path) -> None:
    assert nova_of(Settings(state_dir=tmp_path)) is None
