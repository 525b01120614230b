"""From an export's name and its options in the settings to an export. Third parties add exports by entry point.

An entry point of the group `pumice.exports` names an `ExportKind`; Pumice's own are the `EXPORT` of the module of
`drivers.exports` with their name, loaded when first asked for. Making an export starts nothing: `open` does.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Final, Generic, TypeVar

from pydantic import BaseModel

from drivers import entry_options
from drivers.protocols import Export

ENTRY_POINT_GROUP: Final = "pumice.exports"
_OWN: Final = ("local", "nbd", "iscsi")

Options = TypeVar("Options", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class ExportKind(Generic[Options]):
    """What an entry point names: the model of the options, and the factory, which is given them checked, the
    directory for the node's state, the backend's name, and the node's host name. It must not touch anything."""

    options: type[Options]
    factory: Callable[[Options, Path, str, str], Export]


def create(name: str, options: Mapping[str, object], state_dir: Path, backend_name: str, host_name: str = "") -> Export:
    """The export `name` for the backend `backend_name`, not yet open. `host_name` is the node's name in Pumice: with
    the name that the node has itself, it tells consumers of this node.

    Raises ValueError naming the unknown export or the wrong option, and what is allowed; TypeError when a third
    party's entry point is no `ExportKind` or its factory made no `Export`.
    """
    found = _find(name)
    checked = entry_options.checked(found.options, options, f"backend {backend_name!r}, export {name!r}")
    export = found.factory(checked, state_dir, backend_name, host_name)
    if not isinstance(export, Export):
        raise TypeError(f"export {name!r} made a {type(export).__name__}, which is no drivers.protocols.Export")
    return export


def names() -> list[str]:
    """Every export that `create` knows here, sorted."""
    return entry_options.names(ENTRY_POINT_GROUP, _OWN)


def _find(name: str) -> ExportKind[Any]:
    if name in _OWN:
        own: ExportKind[Any] = import_module(f"drivers.exports.{name}").EXPORT
        return own
    return entry_options.find(ENTRY_POINT_GROUP, ExportKind, "export", name, _OWN)
