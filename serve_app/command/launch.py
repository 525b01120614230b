"""Bringing the service up: `python -m serve_app.command.launch STATE_DIR PART…`, started by `pumice up`.

A process of its own, because it needs Ray, SQL and HTTP, 150 MB that the supervisor can do without, and because a
process connected to Ray dies a minute after it has lost the head. Says each stage on a line; an error is one sentence.
Safe to repeat: it looks what is there and makes the rest.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import httpx
from sqlalchemy import Connection, func, select

from actors.instance import load_instance, machine_mark_of
from actors.names import CONDUCTOR
from cluster import logs
from cluster.journal import lease
from cluster.journal.ledger import CONDUCTOR as LEASE
from cluster.outside import Outside
from cluster.services import leases
from cluster.services.records import Pool, Service
from cluster.settings import Settings, SettingsError
from cluster.settings_file import load_effective, settings_path
from cluster.store.open import migrate, open_store
from cluster.store.seam import Store
from cluster.volume_types.intents import ensure_default_type

APPLICATION = "pumice"
READY_SECONDS = 120.0
_CLOSED = ("backend.closed", "backend.lost")  # events of actors.volume_host


class LaunchError(Exception):
    """The service did not come up; the message says which part."""


async def prepare(settings: Settings) -> None:
    """What needs no Ray: the database's schema, the first identities, clouds.yaml."""
    from serve_app.command.credentials import ensure_credentials

    say("database")
    await migrate(settings.database)
    say("identity")
    store = open_store(settings.database)
    try:
        await ensure_credentials(store, settings, Outside())
        await ensure_default_type(store, settings, Outside())
    finally:
        await store.close()


async def expire(settings: Settings) -> None:
    """End the leases of this instance's earlier conductor and of this host's backends. Only for one who has seen all
    its processes on this machine end: the next need not wait then until the leases have run out."""
    hosts = [f"{settings.host_name}@{backend}" for backend in settings.backends]
    store = open_store(settings.database)
    try:
        await store.write(lambda db: lease.expire(db, LEASE, machine_mark_of(settings.state_dir)))
        await store.write(lambda db: leases.expire(db, hosts, machine_mark_of(settings.state_dir)))
    finally:
        await store.close()


async def actors(settings: Settings) -> None:
    """Start conductor and scheduler unless they are there. Raises LaunchError, ConnectionError."""
    from actors import fleet

    with _connected(settings):
        say("actors")
        await asyncio.to_thread(fleet.start, settings)


async def serve(settings: Settings) -> None:
    """What needs Ray: actors, HTTP, waiting until a volume could be created. Raises LaunchError, ConnectionError."""
    from actors import fleet, ray_port
    from actors.head_environment import LOOPBACK
    from serve_app.deployment import build_app

    with _connected(settings):
        say("actors")
        await asyncio.to_thread(fleet.start, settings)
        say("http")
        await asyncio.to_thread(
            ray_port.deploy_http,
            partial(build_app, str(settings_path(settings.state_dir))),
            name=APPLICATION,
            replicas=settings.replicas,
            host=LOOPBACK,  # HAProxy listens on `listen` as well (actors.head_environment)
            port=settings.port,
            node_labels=fleet.head_selector(settings),
        )
        await _ready(settings)


@contextmanager
def _connected(settings: Settings) -> Iterator[None]:
    from actors import ray_port
    from actors.head_environment import ray_address

    instance = load_instance(settings.state_dir)
    if instance is None:
        raise LaunchError(f"{settings.state_dir}/run/instance.json is missing; run `pumice up`")
    ray_port.connect(ray_address(settings, instance))
    try:
        yield
    finally:
        ray_port.disconnect()


async def _ready(settings: Settings) -> None:
    from actors import fleet

    say("pools")
    store = open_store(settings.database)
    try:
        if fleet.on_head(settings):  # or else the pools are on nodes that may not be there yet
            await _until(partial(_a_pool_is_up, store, settings), partial(_why_no_pool, settings))
        await _until(_a_conductor_works, lambda: "the conductor does not hold its lease; see `pumice logs`")
        await _until(partial(_http_answers, settings), lambda: f"nothing answers at {settings.endpoint}")
    finally:
        await store.close()


async def _until(condition: Callable[[], Awaitable[bool]], otherwise: Callable[[], str]) -> None:
    deadline = time.monotonic() + READY_SECONDS
    while not await condition():
        if time.monotonic() > deadline:
            raise LaunchError(f"{otherwise()} (waited {READY_SECONDS:.0f} s)")
        await asyncio.sleep(0.2)


def _why_no_pool(settings: Settings) -> str:
    """What the backends said last of why they are closed."""
    reasons = {
        event.get("process"): event.get("error")
        for event in logs.read(settings.state_dir / "logs", lambda event: event.get("event") in _CLOSED)
    }
    if not reasons:
        return "no backend has reported a pool; see `pumice logs`"
    return "no backend is open: " + "; ".join(f"{process}: {error}" for process, error in sorted(reasons.items()))


async def _a_pool_is_up(store: Store, settings: Settings) -> bool:
    since = time.time() - settings.timing.service_down

    def count(db: Connection) -> int:
        pools = select(func.count()).select_from(Pool).join(Service, Service.host == Pool.service_host)  # type: ignore[arg-type]
        alive = (Service.heartbeat_at >= since, Pool.reported_at >= since)
        return int(db.execute(pools.where(*alive)).scalar() or 0)  # type: ignore[arg-type]

    return await store.read(count) > 0


async def _a_conductor_works() -> bool:
    from actors import ray_port

    try:
        return await ray_port.call(CONDUCTOR, "epoch", timeout_seconds=5) is not None
    except ray_port.ActorUnavailableError:
        return False


async def _http_answers(settings: Settings) -> bool:
    host = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(settings.listen, settings.listen)  # noqa: S104
    async with httpx.AsyncClient(trust_env=False) as client:
        try:
            answer = await client.get(f"http://{host}:{settings.port}/", timeout=5)
        except httpx.HTTPError:
            return False
    return answer.status_code < 500


def say(stage: str) -> None:
    """Tell the supervisor what begins."""
    print(stage, flush=True)


PARTS = {"prepare": prepare, "expire": expire, "actors": actors, "serve": serve}


def main(state_dir: str, *parts: str) -> int:
    """Do the named parts (PARTS) for the instance in `state_dir`, in that order; return the exit code."""
    try:
        settings = load_effective(settings_path(Path(state_dir)))
        for name in parts:
            asyncio.run(PARTS[name](settings))
    except (SettingsError, LaunchError, ConnectionError) as error:
        print(error, file=sys.stderr)
        return 1
    except Exception as error:  # the supervisor repeats it to a person; the traceback is for the log
        import traceback

        traceback.print_exc()
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main(*sys.argv[1:]))
