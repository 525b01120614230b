"""What a volume service says of itself at every heartbeat."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from drivers.vocabulary import PoolReport


@dataclass(frozen=True)
class ServiceReport:
    """`host` is `host@backend`. `backend_up` is False while the storage cannot be opened; then `pools` is empty."""

    host: str
    availability_zone: str
    node_labels: Mapping[str, str]
    backend_up: bool
    pools: Sequence[PoolReport]
