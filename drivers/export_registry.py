"""From an export's name and its options in the settings to an export. Third parties add exports by entry point.

An entry point of the group `pumice.exports` names an `ExportKind`; Pumice's own are the `EXPORT` of the module of
`drivers.exports` with their name, loaded when first asked for. Making an export starts nothing: `open` does.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Final, Generic, TypeVar

from pydantic import BaseModel

from drivers import entry_options
from drivers.exports.options import NetworkOptions
from drivers.exports.place import own_directory
from drivers.protocols import Export
from drivers.reflink import durable

ENTRY_POINT_GROUP: Final = "pumice.exports"
_OWN: Final = ("local", "nbd", "iscsi")
_REMEMBERED: Final = "options.json"

Options = TypeVar("Options", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class ExportKind(Generic[Options]):
    """What an entry point names: the model of the options, and the factory, which is given them checked, the
    directory for the node's state, the backend's name, and the node's host name. It must not touch anything."""

    options: type[Options]
    factory: Callable[[Options, Path, str, str], Export]


def create(
    name: str,
    options: Mapping[str, object],
    state_dir: Path,
    backend_name: str,
    host_name: str = "",
    *,
    address: str | None = None,
) -> Export:
    """The export `name` for the backend `backend_name`, not yet open. `host_name` is the node's name in Pumice: with
    the name that the node has itself, it tells consumers of this node. `address` is the node's on the storage network:
    an export whose options are `NetworkOptions` and say no address listens there.

    Raises ValueError naming the unknown export or the wrong option, and what is allowed; TypeError when a third
    party's entry point is no `ExportKind` or its factory made no `Export`.
    """
    found = _find(name)
    if address is not None and issubclass(found.options, NetworkOptions):
        options = {"address": address, **options}
    checked = entry_options.checked(found.options, options, f"backend {backend_name!r}, export {name!r}")
    export = found.factory(checked, state_dir, backend_name, host_name)
    if not isinstance(export, Export):
        raise TypeError(f"export {name!r} made a {type(export).__name__}, which is no drivers.protocols.Export")
    return export


def remember(
    name: str, options: Mapping[str, object], state_dir: Path, backend_name: str, *, address: str | None = None
) -> None:
    """Write down with which options the export is made, for when the settings do not name it any more (`leaving`).
    Blocking; raises OSError."""
    path = own_directory(state_dir, backend_name, name) / _REMEMBERED
    text = json.dumps({"options": dict(options), "address": address}, default=str)
    if not path.is_file() or path.read_text(encoding="utf-8") != text:
        durable.ensure_directory(path.parent)
        durable.write_whole(path, text)


def leaving(
    state_dir: Path, backend_name: str, host_name: str, configured: Collection[str]
) -> tuple[list[Export], list[str]]:
    """The exports that the backend had on this node and the settings do not name any more, as they were made last, and
    what is wrong with those that cannot be made. They may still serve consumers, or nobody. Blocking."""
    found, troubles = [], []
    for own in sorted((state_dir / "exports" / backend_name).glob("*/")):
        if own.name in configured:
            continue
        try:
            remembered = json.loads((own / _REMEMBERED).read_text(encoding="utf-8"))
            options, address = remembered["options"], remembered["address"]
        except (OSError, ValueError, KeyError, TypeError):
            options, address = {}, None
        try:
            found.append(create(own.name, options, state_dir, backend_name, host_name, address=address))
        except (ValueError, TypeError) as error:
            troubles.append(f"what {own.name} of backend {backend_name!r} still serves cannot be looked after: {error}")
    return found, troubles


def names() -> list[str]:
    """Every export that `create` knows here, sorted."""
    return entry_options.names(ENTRY_POINT_GROUP, _OWN)


def _find(name: str) -> ExportKind[Any]:
    if name in _OWN:
        own: ExportKind[Any] = import_module(f"drivers.exports.{name}").EXPORT
        return own
    return entry_options.find(ENTRY_POINT_GROUP, ExportKind, "export", name, _OWN)
