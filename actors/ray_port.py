"""The one door to Ray: every `ray.*` call of the project is in this module. It must not know what the actors do.

    ActorUnavailableError        the actor could not answer; look the outcome up before doing anything else
    ├── NotSentError             certainly not delivered: no such actor, or this process is not connected
    └── OutcomeUnknownError      it may have run: the actor died, restarted or did not answer in time

An exception which the actor's own method raises comes back as itself, its remote traceback as `__cause__`.

Everything but `call` and `ring` blocks while the cluster answers (milliseconds; longer while the head is away): call it
outside an event loop or in a thread. Serve is imported where it is used, because it costs a process 40 MB. Ray installs
uvloop in workers with async actors; pyroute2's sockets fail on it (`invalid family 16`): use pyroute2 in a thread with
`IPRoute(use_event_loop=asyncio.SelectorEventLoop())`.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import threading
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
from ray import exceptions as ray_errors
from ray._private import ray_constants
from ray._private.runtime_env.constants import RAY_JOB_CONFIG_JSON_ENV_VAR
from ray._raylet import Config  # type: ignore[attr-defined]
from ray.experimental import internal_kv
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from actors.asgi import answer_of

NAMESPACE = "pumice"
# In the environment of a program that was submitted as a job (`ray job submit`), and of nothing else.
JOB_VARIABLE = RAY_JOB_CONFIG_JSON_ENV_VAR
RING_SECONDS = 10.0
RINGS_KEPT = 1000
_LOOPBACK = ("127.0.0.1", "localhost")
_SERVE_STARTS = 3
_SERVE_CONTROLLER = ("SERVE_CONTROLLER_ACTOR", "serve")

_handles: dict[str, Any] = {}
_served: dict[str, Any] = {}


class ActorUnavailableError(Exception):
    """The actor could not answer."""


class NotSentError(ActorUnavailableError):
    """The call was certainly not delivered."""


class OutcomeUnknownError(ActorUnavailableError):
    """The call may have run, wholly or in part."""


@dataclass(frozen=True)
class Node:
    """A node of the cluster. `id` changes with every restart of its raylet; labels do not."""

    id: str
    address: str
    labels: Mapping[str, str]
    alive: bool


def connect(address: str, namespace: str = NAMESPACE, *, token: Path | None = None, shows_output: bool = False) -> None:
    """Join the cluster at `address` (`host:port`; never guessed). Raises ConnectionError when nothing answers there.

    `token` is the file of the secret that admits to it. None: as RAY_AUTH_MODE and RAY_AUTH_TOKEN_PATH say, which must
    have been in the environment before Ray was imported. `shows_output`: what this program's tasks print, it prints.
    """
    if token is not None:
        os.environ.update(RAY_AUTH_MODE="token", RAY_AUTH_TOKEN_PATH=str(token))
        Config.initialize(json.dumps({"AUTH_MODE": "token"}))  # it has read its environment when it was imported
    if address.partition(":")[0] in _LOOPBACK:
        # Else Ray takes an address of the loopback for a slip, and asks for the head at another of this machine's.
        ray_constants.ENABLE_RAY_CLUSTER = False
    try:
        ray.init(
            address,
            namespace=namespace,
            log_to_driver=shows_output,
            logging_level=logging.ERROR,
            ignore_reinit_error=True,
        )
    except (ConnectionError, ray_errors.RayError, RuntimeError) as error:
        raise ConnectionError(f"Ray at {address} cannot be joined: {error}") from error


def connected() -> bool:
    """Whether this process is part of a cluster (tasks and actors always are)."""
    return bool(ray.is_initialized())


def own_cluster() -> str:
    """The address of the cluster that this process is part of."""
    return str(ray.get_runtime_context().gcs_address)


def own_node_id() -> str:
    """The id of the node on which this process runs."""
    return str(ray.get_runtime_context().get_node_id())


def disconnect() -> None:
    """Leave the cluster. Detached actors and Serve stay."""
    _handles.clear()
    _served.clear()
    ray.shutdown()


def nodes() -> list[Node]:
    """The nodes that the head knows, dead ones included."""
    return [
        Node(row["NodeID"], row["NodeManagerAddress"], dict(row.get("Labels") or {}), bool(row["Alive"]))
        for row in ray.nodes()  # type: ignore[no-untyped-call]
    ]


def remember(key: str, value: str) -> None:
    """The head keeps `value` under `key`, for `remembered_at`."""
    internal_kv._internal_kv_put(key.encode(), value.encode(), overwrite=True, namespace=NAMESPACE.encode())


def remembered_at(address: str, key: str, timeout_seconds: float) -> str | None:
    """What the head at `address` keeps under `key`, asked as by `nodes_at` and with its errors; None: nothing."""
    found = _asked_from_outside(
        address, lambda head: head.internal_kv_get(key.encode(), NAMESPACE.encode(), timeout=timeout_seconds)
    )
    return None if found is None else str(found, "utf-8")


def nodes_at(address: str, timeout_seconds: float) -> list[Node]:
    """The nodes known to the head at `address`, asked from outside the cluster: this process joins nothing.

    Raises ConnectionError when nothing answers there, PermissionError when it does not take our token.
    """
    found = _asked_from_outside(address, lambda head: head.get_all_node_info(timeout=timeout_seconds))
    alive = 0  # GcsNodeInfo.GcsNodeState.ALIVE
    return [
        Node(row.node_id.hex(), row.node_manager_address, dict(row.labels), row.state == alive)
        for row in found.values()
    ]


def _asked_from_outside(address: str, question: Callable[[Any], Any]) -> Any:
    from ray._raylet import GcsClient  # type: ignore[attr-defined]  # nothing public works without a node of one's own

    try:
        return question(GcsClient(address=address))
    except ray_errors.AuthenticationError as error:
        raise PermissionError(_first_line(error)) from error
    except (ray_errors.RayError, RuntimeError, OSError) as error:
        raise ConnectionError(_first_line(error)) from error


def own_labels() -> dict[str, str]:
    """The labels of the node on which this process runs."""
    labels: Mapping[str, Any] = ray.get_runtime_context().get_node_labels()
    return {key: str(value) for key, value in labels.items()}


def own_address() -> str:
    """The address by which the cluster knows the node on which this process runs."""
    return str(ray.util.get_node_ip_address())  # type: ignore[no-untyped-call]


def own_actor_id() -> str:
    """The id of the actor that runs here; a restart keeps it."""
    return str(ray.get_runtime_context().get_actor_id())


def ensure_actor(
    cls: type,
    name: str,
    *,
    args: Sequence[Any] = (),
    label_selector: Mapping[str, str] | None = None,
    env: Mapping[str, str] | None = None,
    max_concurrency: int = 1000,
    node_id: str | None = None,
) -> None:
    """See that a detached actor of class `cls` exists under `name`; an existing one keeps its arguments. With `node_id`
    it runs on that node and dies for good with it.

    It does not wait for the actor: a selector which no node matches waits for ever without an error. Retries are the
    journal's business, so a call is never run twice by Ray (`max_task_retries=0`).
    """
    options: dict[str, Any] = {
        "name": name,
        "namespace": NAMESPACE,
        "lifetime": "detached",
        "get_if_exists": True,
        "max_restarts": -1,
        "max_task_retries": 0,
        "num_cpus": 0,
        "max_concurrency": max_concurrency,
    }
    if label_selector:
        options["label_selector"] = dict(label_selector)
    if node_id:
        options["scheduling_strategy"] = NodeAffinitySchedulingStrategy(node_id=node_id, soft=False)
    if env:
        options["runtime_env"] = {"env_vars": dict(env)}
    ray.remote(cls).options(**options).remote(*args)


def end_actor(name: str) -> None:
    """End the actor for good, if there is one; what it was doing is broken off."""
    try:
        ray.kill(ray.get_actor(name, namespace=NAMESPACE), no_restart=True)
    except ValueError:
        return
    finally:
        _handles.pop(name, None)


def actor_names() -> set[str]:
    """The names of the actors that live, restart or wait for a node; one that is dead for good is not among them."""
    rows: list[dict[str, str]] = ray.util.list_named_actors(all_namespaces=True)
    return {row["name"] for row in rows if row["namespace"] == NAMESPACE}


async def call(actor_name: str, method: str, *args: Any, timeout_seconds: float) -> Any:
    """The result of `method(*args)` of the named actor.

    Raises what the method raises, NotSentError or OutcomeUnknownError. A call that timed out goes on running there.
    """
    handle = _handles.get(actor_name)
    if handle is None:
        handle = await asyncio.to_thread(_look_up, actor_name)
    try:
        reference = getattr(handle, method).remote(*args)
    except (ray_errors.RayError, AttributeError) as error:
        _handles.pop(actor_name, None)
        raise NotSentError(f"{actor_name}.{method} could not be sent: {error}") from error
    try:
        return await asyncio.wait_for(reference, timeout_seconds)
    except ray_errors.RayTaskError as error:
        cause = error.cause
        if isinstance(cause, Exception) and not isinstance(cause, ray_errors.RayError):
            raise cause from error
        raise OutcomeUnknownError(f"{actor_name}.{method} failed: {error}") from error
    except TimeoutError as error:
        raise OutcomeUnknownError(f"{actor_name}.{method} did not answer within {timeout_seconds:g} s") from error
    except ray_errors.RayError as error:
        _handles.pop(actor_name, None)
        raise OutcomeUnknownError(f"{actor_name}.{method}: the actor went away: {_first_line(error)}") from error


def ring(actor_name: str, method: str, *args: Hashable) -> None:
    """Call the method and forget it: neither waits nor raises, and what is lost is lost (the actor polls as well).

    At most one ring is under way; equal rings made meanwhile become one more after it.
    """
    _bell.ring(actor_name, method, args)


class _Bell:
    """One thread, in which everything that may block is done."""

    def __init__(self) -> None:
        self._wanted: dict[tuple[str, str, tuple[Hashable, ...]], None] = {}
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None

    def ring(self, actor_name: str, method: str, args: tuple[Hashable, ...]) -> None:
        with self._changed:
            if len(self._wanted) < RINGS_KEPT:
                self._wanted[actor_name, method, args] = None
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="ray-port-bell", daemon=True)
                self._thread.start()
            self._changed.notify()

    def _run(self) -> None:
        while True:
            with self._changed:
                while not self._wanted:
                    self._changed.wait()
                actor_name, method, args = next(iter(self._wanted))
                del self._wanted[actor_name, method, args]
            try:
                handle = _handles.get(actor_name) or _look_up(actor_name)
                ray.get(getattr(handle, method).remote(*args), timeout=RING_SECONDS)
            except Exception:  # a ring is dropped by contract, whatever hindered it
                _handles.pop(actor_name, None)


_bell = _Bell()


def _look_up(actor_name: str) -> Any:
    # Asked first, because ray.get_actor would otherwise start or join some cluster by itself.
    if not ray.is_initialized():
        raise NotSentError(f"this process is not connected to Ray, so {actor_name} cannot be called")
    try:
        handle = ray.get_actor(actor_name, namespace=NAMESPACE)
    except ValueError as error:
        raise NotSentError(f"there is no actor {actor_name}") from error
    except ray_errors.RayError as error:
        raise NotSentError(f"the Ray head did not say where {actor_name} is: {_first_line(error)}") from error
    _handles[actor_name] = handle
    return handle


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


class _Api:
    """The class that Serve deploys. Requests come over HTTP or, from programs of the cluster, as calls."""

    _asgi_app: Any  # Serve's own name for what the builder returned

    async def ask(self, method: str, path: str, headers: dict[str, str], content: bytes) -> tuple[int, Any, bytes]:
        """The application's answer to a request that did not come over HTTP: status, headers (lower case), body."""
        return await answer_of(self._asgi_app, method, path, headers, content)


async def ask_http(
    method: str, path: str, headers: dict[str, str], content: bytes, timeout_seconds: float
) -> tuple[int, dict[str, str], bytes]:
    """Have a replica of the deployed application answer a request: status, headers (lower case), body.

    Raises NotSentError, OutcomeUnknownError.
    """
    from ray import serve
    from ray.serve.exceptions import RayServeException

    try:
        handle = _served.get(NAMESPACE)
        if handle is None:
            # It tells of its inner life on the caller's terminal.
            logging.getLogger("ray.serve").setLevel(logging.WARNING)
            handle = await asyncio.to_thread(serve.get_app_handle, NAMESPACE)
            _served[NAMESPACE] = handle
        response = handle.ask.remote(method, path, headers, content)  # type: ignore[union-attr]
    except (RayServeException, ray_errors.RayError, ValueError) as error:
        _served.clear()
        raise NotSentError(f"the API is not there: {_first_line(error)}") from error
    try:
        answer: tuple[int, dict[str, str], bytes] = await asyncio.wait_for(response, timeout_seconds)
    except TimeoutError as error:
        raise OutcomeUnknownError(f"the API did not answer within {timeout_seconds:g} s") from error
    except (RayServeException, ray_errors.RayError) as error:
        _served.clear()
        raise OutcomeUnknownError(f"the API went away: {_first_line(error)}") from error
    return answer


def deploy_http(
    builder: Callable[[], Any],
    *,
    name: str,
    replicas: int,
    host: str,
    port: int,
    node_labels: Mapping[str, str],
    max_ongoing_requests: int = 200,
    request_timeout_seconds: float = 60.0,
) -> None:
    """Serve the ASGI application that `builder()` returns in each replica, at `host:port` under `/`.

    The replicas run on nodes with `node_labels`. Waits until they do. A Serve that listens elsewhere from an earlier
    life is shut down first. Raises RuntimeError when the application cannot be started.
    """
    from ray import serve
    from ray.serve.config import HTTPOptions, ProxyLocation
    from ray.serve.schema import LoggingConfig

    logs = LoggingConfig(encoding="JSON", log_level="WARNING", enable_access_log=False)
    options = HTTPOptions(host=host, port=port, request_timeout_s=request_timeout_seconds, keep_alive_timeout_s=75)
    if _serve_address() not in (None, (host, port)):
        serve.shutdown()  # type: ignore[no-untyped-call]
    for left in reversed(range(_SERVE_STARTS)):
        try:
            serve.start(proxy_location=ProxyLocation.HeadOnly, http_options=options, logging_config=logs)
            break
        except ray_errors.RayError:
            # The ingress died, or Serve gave it up for another one (it was slow), while this waited for it. Serve
            # itself runs; the next call finds it.
            if not left:
                raise

    def build() -> Any:
        # Serve takes a plain function for a builder, and anything else that can be called for the application itself.
        return builder()

    deployment = serve.deployment(serve.ingress(build)(_Api)).options(  # type: ignore[attr-defined]
        name="api",
        num_replicas=replicas,
        max_ongoing_requests=max_ongoing_requests,
        ray_actor_options={"num_cpus": 0, "label_selector": dict(node_labels)},
        graceful_shutdown_timeout_s=5,
        # Three failures make a replica unhealthy: one that hangs is replaced after 15 to 20 s.
        health_check_period_s=5,
        health_check_timeout_s=5,
    )
    try:
        serve.run(deployment.bind(), name=name, route_prefix="/", logging_config=logs)
    except RuntimeError as error:
        raise RuntimeError(f"the API's replicas do not start: {_why(name) or error}") from error


def _why(name: str) -> str:
    """The last line of what a replica of the application died of, as far as Serve knows."""
    from ray import serve

    application = serve.status().applications.get(name)
    messages = [deployment.message for deployment in application.deployments.values()] if application else []
    lines = [line.strip() for message in messages for line in message.splitlines() if line.strip()]
    return next((line for line in reversed(lines) if "Error" in line), "")


def serve_running() -> bool:
    """Whether Serve has been started in this cluster."""
    name, namespace = _SERVE_CONTROLLER
    try:
        ray.get_actor(name, namespace)
    except ValueError:
        return False
    return True


def _serve_address() -> tuple[str | None, int] | None:
    if not serve_running():
        return None
    controller: Any = ray.get_actor(*_SERVE_CONTROLLER)
    options: Any = ray.get(controller.get_http_config.remote(), timeout=60)
    return options.host, options.port
