"""Cinder's names of places: `host@backend#pool` (scheduler facts §1). Knows text only, not what runs there."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from cluster.scheduling.errors import HostNameError

# Width of Cinder's host columns.
_MAX_LENGTH = 255


class Level(StrEnum):
    """How much of a name to take. BACKEND is `host@backend`; POOL is the pool's own name."""

    HOST = "host"
    BACKEND = "backend"
    POOL = "pool"


@dataclass(frozen=True, slots=True)
class HostName:
    """A parsed name. `backend` and `pool` are None where the text names no such part."""

    host: str
    backend: str | None = None
    pool: str | None = None

    def __str__(self) -> str:
        return self.service + (f"#{self.pool}" if self.pool is not None else "")

    @property
    def service(self) -> str:
        """`host@backend`: the name of the volume service (only `host` where there is no backend)."""
        return self.host if self.backend is None else f"{self.host}@{self.backend}"

    @classmethod
    def parse(cls, text: str) -> HostName:
        """Split `text`. A pool's name may contain `@` and `#`. Raises HostNameError for an empty or too long part."""
        service, hash_mark, pool = text.partition("#")
        host, at_mark, backend = service.partition("@")
        if not host or (at_mark and not backend) or (hash_mark and not pool) or len(text) > _MAX_LENGTH:
            raise HostNameError(
                f"{text[:60]!r} is not a host name: write host, host@backend or host@backend#pool"
                f" (at most {_MAX_LENGTH} characters)"
            )
        return cls(host, backend if at_mark else None, pool if hash_mark else None)


def extract(text: str, level: Level) -> str | None:
    """The part of `text` at `level`; None when POOL is asked of a name without one. Raises HostNameError."""
    name = HostName.parse(text)
    if level is Level.HOST:
        return name.host
    return name.service if level is Level.BACKEND else name.pool


def service_of(host: str) -> str:
    """`host@backend` of a full pool name, without checking it: for the hot path."""
    return host.partition("#")[0]


def covers(place: str, pool_host: str) -> bool:
    """Whether `place` is the pool `pool_host` itself or, when it names no pool, the service that the pool is of."""
    return place == pool_host or ("#" not in place and place == service_of(pool_host))
