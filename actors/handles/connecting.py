"""Finding the instance: an HTTP endpoint, the cluster this process is part of, the other arguments, the cluster of the
job that this process is, `PUMICE_STATE_DIR`, `RAY_ADDRESS`."""

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
    that this process belongs to already (tasks, actors); the `state_dir`; the Ray `address`; the cluster to which this
    program was submitted as a job; the variable PUMICE_STATE_DIR; the variable RAY_ADDRESS; the default state
    directory. Without a user it acts as the one that the settings name for programs of the cluster. Raises
    UnreachableError, NotAllowedError (also when the arguments name another cluster than this process's own).
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

    if ray_port.connected():
        if state_dir is not None or address is not None:
            _check_same(ray_port.own_cluster(), state_dir, address)
        return
    found, token = _place(state_dir, address)
    try:
        ray_port.connect(found, token=token, shows_output=True)
    except ConnectionError as error:
        raise UnreachableError(f"{error}; {_advice(token)}") from error


def _check_same(own: str, state_dir: Path | str | None, address: str | None) -> None:
    """A process is part of one cluster: arguments that name another are no wish that can be fulfilled."""
    if state_dir is None:
        named = address
    else:
        try:
            named = _address_of(Path(state_dir).expanduser().absolute())
        except UnreachableError:  # the head's directory, named in a task on another node
            return
    if named not in (own, "auto"):
        raise NotAllowedError(
            f"this process is part of the cluster at {own}, and {named} is another: leave the arguments away, or use "
            "HTTP: connect(endpoint=…, username=…, password=…, project_name=…)"
        )


def _place(state_dir: Path | str | None, address: str | None) -> tuple[str, Path | None]:
    """The Ray address, and the file of the secret that admits to it; None: Ray's own variables say how it is let in."""
    from actors.ray_port import JOB_VARIABLE

    if state_dir is None and address is None:
        in_job = JOB_VARIABLE in os.environ  # then Ray has set the variable for the address, too
        state_dir = None if in_job else os.environ.get("PUMICE_STATE_DIR") or None
        address = None if state_dir else os.environ.get("RAY_ADDRESS") or None
    if address is not None and state_dir is None:
        if "://" in address:
            raise UnreachableError(
                f"{address} is a URL, as for `ray job submit`, and handles need the address of the cluster itself: "
                "give connect() the state_dir, or as address what `pumice status` shows as ray_address"
            )
        return address, None
    directory = (Path(state_dir) if state_dir else _default()).expanduser().absolute()
    return _address_of(directory), _token_of(directory)


def _token_of(state_dir: Path) -> Path | None:
    from actors.node_environment import token_path

    token = token_path(state_dir)
    if os.access(token, os.R_OK):
        return token
    if os.environ.get("RAY_AUTH_TOKEN_PATH"):  # a node that has joined may have its copy anywhere
        return None
    raise NotAllowedError(
        f"{token} cannot be read, and without it the cluster admits nobody: run this as the user of the instance, name "
        "a copy of it that you can read in RAY_AUTH_TOKEN_PATH (with RAY_AUTH_MODE=token), or use HTTP: "
        "connect(endpoint=…, username=…, password=…, project_name=…)"
    )


def _advice(token: Path | None) -> str:
    if token is not None:
        return "see with `pumice status` whether the instance runs, and start it with `pumice up`"
    return (
        "the address is what `pumice status` shows as ray_address, and RAY_AUTH_MODE=token and RAY_AUTH_TOKEN_PATH (a "
        "copy of the instance's secrets/ray.token) have to be set before Ray is imported"
    )


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
