"""A node that has joined another machine's head: its raylet and what runs under it. No Ray here: other processes, found
by their mark (`actors.processes`).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from actors import node_environment, processes
from actors.hangs import Hangs
from actors.instance import Instance, ensure_private
from actors.ray_start import RayStartError, ray_start, tidy_sessions
from cluster.storage_network.choosing import choose_here
from cluster.storage_network.settings import StorageNetworkSettings
from drivers.attach.clearing import SERVING

_RAYLET = "raylet"
# How long raylet and volume actors go on without a head; a machine may need some minutes to start again. Ray's own
# figure is 60 s, after which work that is under way here would be broken off for nothing.
_HEAD_MAY_BE_AWAY_SECONDS = 1800


class JoinedNode:
    """This machine's node of the cluster whose head is at `head` (host:port). `address` is how the others reach it,
    `token` the file with the cluster's secret, `network` what it says itself of its storage network. It outlives this
    object; `stop` ends it."""

    def __init__(
        self,
        instance: Instance,
        *,
        head: str,
        address: str,
        token: Path,
        labels: Mapping[str, str],
        object_store_bytes: int,
        network: StorageNetworkSettings,
    ) -> None:
        self._network = network
        self._instance, self._head, self._address = instance, head, address
        self._labels, self._object_store_bytes = labels, object_store_bytes
        self.environment = node_environment.environment(instance, token) | {
            "RAY_gcs_rpc_server_reconnect_timeout_s": str(_HEAD_MAY_BE_AWAY_SECONDS)
        }
        self._hangs = Hangs(instance, address)
        self._raylet: tuple[int, str] | None = None

    def start(self, log: Path, network: StorageNetworkSettings) -> None:
        """Start it; return when it has registered with the head. `network` is what the instance says of storage
        networks. Raises RayStartError, InstanceError, SettingsError (no such network here), OSError."""
        for directory in (self._instance.short_dir, self._instance.state_dir / "run"):
            ensure_private(directory)
        tidy_sessions(self._instance)
        chosen = choose_here(self._network.under(network), self._labels, self._address)
        chosen.write(self._instance.state_dir)
        labels = {**self._labels, **chosen.labels}
        arguments = {
            "address": self._head,
            "node-ip-address": self._address,
            **node_environment.arguments(self._instance, labels, self._object_store_bytes, shows_output=True),
        }
        ray_start(
            [f"--{key}={value}" for key, value in arguments.items()], self.environment, log, what="this machine's node"
        )
        found = processes.find(self._instance.mark, _RAYLET)
        if not found:
            raise RayStartError(f"the node started, and its raylet died at once; see {log} and {self.ray_logs}")
        self._raylet = found[0].pid, processes.started_at(found[0].pid)
        self._hangs = Hangs(self._instance, self._address)

    @property
    def ray_logs(self) -> Path:
        """Where Ray logs."""
        return self._instance.ray_dir / "session_latest" / "logs"

    def lives(self) -> bool:
        """Whether the raylet runs. It ends by itself when the head has declared the node dead."""
        if self._raylet is None:
            return False
        pid, started_at = self._raylet
        return processes.is_alive(pid) and processes.started_at(pid) == started_at

    def end_hung(self) -> list[processes.Process]:
        """Kill those of its processes that live and do nothing; return them."""
        return self._hangs.end(serving=False)

    def stop(self) -> list[processes.Process]:
        """End every process of it but those that serve attached volumes; return those that would not go."""
        return processes.stop(self._instance.mark, first=(_RAYLET,), spare=SERVING)
