"""From a driver's name and its options in the settings to a backend. Third parties add drivers by entry point.

An entry point of the group `pumice.drivers` names a `Driver`. Making a backend touches no storage: `open` does.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Generic, TypeVar

from pydantic import BaseModel, ConfigDict, Field

from drivers import entry_options
from drivers.memory import MemoryBackend
from drivers.pool_image import ImageGround, OwnFileSystem
from drivers.protocols import Backend
from drivers.reflink.backend import ReflinkBackend
from drivers.vocabulary import GIB

ENTRY_POINT_GROUP: Final = "pumice.drivers"


class PoolOptions(BaseModel):
    """Options that every driver of Pumice has. A driver's own model may inherit them; unknown ones are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    pool_name: str | None = Field(default=None, min_length=1, max_length=255, description="default: the backend's name")
    reserved_percentage: int = Field(default=0, ge=0, le=100)
    max_over_subscription_ratio: float = Field(default=20.0, ge=1.0)
    filter_function: str | None = None
    goodness_function: str | None = None


class MemoryOptions(PoolOptions):
    """Options of the driver "memory". Its content ends with the process."""

    capacity_gib: int = Field(default=100, ge=1)


class ReflinkOptions(PoolOptions):
    """Options of the driver "reflink". `image_size_gib` and `own_file_system` count only without `directory`."""

    directory: Path | None = None
    image_size_gib: int = Field(default=100, ge=1)
    own_file_system: OwnFileSystem = OwnFileSystem.AUTO


Options = TypeVar("Options", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class Driver(Generic[Options]):
    """What an entry point names: the model of the options, and the factory, which is given them checked, the
    directory for the backend's state, and the backend's name. The factory must not touch storage."""

    options: type[Options]
    factory: Callable[[Options, Path, str], Backend]


def _memory(options: MemoryOptions, _state_dir: Path, backend_name: str) -> Backend:
    return MemoryBackend(
        {options.pool_name or backend_name: options.capacity_gib * GIB},
        reserved_percentage=options.reserved_percentage,
        max_over_subscription_ratio=options.max_over_subscription_ratio,
        filter_function=options.filter_function,
        goodness_function=options.goodness_function,
    )


def _reflink(options: ReflinkOptions, state_dir: Path, backend_name: str) -> Backend:
    pools_dir = state_dir / "pools"
    ground = None
    if options.directory is None:
        ground = ImageGround(pools_dir / f"{backend_name}.img", options.image_size_gib, options.own_file_system)
    return ReflinkBackend(
        options.directory or pools_dir / backend_name,
        options.pool_name or backend_name,
        reserved_percentage=options.reserved_percentage,
        max_over_subscription_ratio=options.max_over_subscription_ratio,
        filter_function=options.filter_function,
        goodness_function=options.goodness_function,
        identity_file=pools_dir / f"{backend_name}.identity.json",
        ground=ground,
    )


_OWN: Final[Mapping[str, Driver[Any]]] = {
    "memory": Driver(MemoryOptions, _memory),
    "reflink": Driver(ReflinkOptions, _reflink),
}


def create(driver: str, options: Mapping[str, object], state_dir: Path, backend_name: str) -> Backend:
    """The backend `backend_name` of this driver, not yet open.

    Raises ValueError naming the unknown driver or the wrong option, and what is allowed; TypeError when a third
    party's entry point is no `Driver` or its factory made no `Backend`.
    """
    found = _find(driver)
    checked = entry_options.checked(found.options, options, f"backend {backend_name!r}, driver {driver!r}")
    if backend_name in ("", ".", "..") or "/" in backend_name or "\0" in backend_name:
        raise ValueError(f"{backend_name!r} cannot name a backend: it becomes a directory's name")
    backend = found.factory(checked, state_dir, backend_name)
    if not isinstance(backend, Backend):
        raise TypeError(f"driver {driver!r} made a {type(backend).__name__}, which is no drivers.protocols.Backend")
    return backend


def names() -> list[str]:
    """Every driver that `create` knows here, sorted."""
    return entry_options.names(ENTRY_POINT_GROUP, _OWN)


def _find(driver: str) -> Driver[Any]:
    if driver in _OWN:
        return _OWN[driver]
    return entry_options.find(ENTRY_POINT_GROUP, Driver, "driver", driver, _OWN)
