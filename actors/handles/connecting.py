"""Finding the instance: the cluster this process is part of, the arguments, `PUMICE_STATE_DIR`, `RAY_ADDRESS`."""

from __future__ import annotations

import json
import os
from pathlib import Path

from actors.handles.asynchronous import AsyncClient
from actors.handles.blocking import Client
from actors.handles.errors import NotAllowedError, UnreachableError
from actors.handles.session import Login, Session
from actors.handles.transport import ClusterTransport, HttpTransport, Transport


def connect(
    state_dir: Path | str | None = None,
    *,
    address: str | None = None,
    endpoint: str | None = None,
    username: str | None = None,
    password: str | None = None,
    project_name: str | None = None,
) -> Client:
    """A client of the instance.

    It is found, in this order: the HTTP `endpoint` (then username, password and project_name are needed); the cluster
    that this process belongs to already (tasks, actors, jobs); the `state_dir`; the Ray `address`; the variable
    PUMICE_STATE_DIR; the variable RAY_ADDRESS; the default state directory. Without a user it acts as the one that the
    settings name for programs of the cluster. Raises UnreachableError, NotAllowedError.
    """
    return Client(_client(state_dir, address, endpoint, Login(username, password, project_name)))


async def aconnect(
    state_dir: Path | str | None = None,
    *,
    address: str | None = None,
    endpoint: str | None = None,
    username: str | None = None,
    password: str | None = None,
    project_name: str | None = None,
) -> AsyncClient:
    """As `connect`, for programs with an event loop."""
    import asyncio

    login = Login(username, password, project_name)
    return await asyncio.to_thread(_client, state_dir, address, endpoint, login)


def _client(state_dir: Path | str | None, address: str | None, endpoint: str | None, login: Login) -> AsyncClient:
    transport: Transport
    if endpoint is not None:
        if login.username is None:
            raise NotAllowedError("over HTTP a user is needed: give username, password and project_name")
        transport = HttpTransport(endpoint.rstrip("/"))
    else:
        _join(state_dir, address)
        transport = ClusterTransport()
    return AsyncClient(Session(transport, login))


def _join(state_dir: Path | str | None, address: str | None) -> None:
    from actors import ray_port
    from actors.node_environment import token_path

    if ray_port.connected():
        return
    given = state_dir or (None if address else os.environ.get("PUMICE_STATE_DIR"))
    address = address or (None if given else os.environ.get("RAY_ADDRESS"))
    token = None  # with an address, Ray's own variables say how it is let in
    if address is None:
        directory = (Path(given) if given else _default()).expanduser().absolute()
        address, token = _address_of(directory), token_path(directory)
    try:
        ray_port.connect(address, token=token)
    except ConnectionError as error:
        raise UnreachableError(str(error)) from error


def _default() -> Path:
    from cluster.settings import Settings

    path: Path = Settings.model_fields["state_dir"].get_default(call_default_factory=True)
    return path


def _address_of(state_dir: Path) -> str:
    """The Ray address of the instance that runs in `state_dir`."""
    path = state_dir / "run" / "up.json"
    try:
        return str(json.loads(path.read_text(encoding="utf-8"))["ray_address"])
    except (OSError, ValueError, KeyError) as error:
        raise UnreachableError(
            f"no instance runs in {state_dir} (there is no {path}); start one with `pumice up`, "
            "or give state_dir, address or endpoint to connect()"
        ) from error
