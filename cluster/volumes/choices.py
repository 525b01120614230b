"""What a new volume takes from elsewhere when the request leaves it open: its type, its availability zone.

Sources: Cinder's order of choice (the asked type; that of the source; the project's default; the configured default)
and its sentences. Must not know HTTP.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeGuard

from sqlalchemy import Connection, bindparam, select

from cluster.caller import Caller
from cluster.errors import InvalidInputError, NotFoundError, RequestError
from cluster.services.records import Service
from cluster.settings import Settings
from cluster.volume_types import queries as types
from cluster.volume_types.records import VolumeType
from cluster.volumes.refusals import invalid_input

_TYPE: Final = VolumeType.metadata.tables["volume_type"].c
_SERVICE: Final = Service.metadata.tables["service"].c
_OF_ID: Final = select(_TYPE.id, _TYPE.name, _TYPE.extra_specs).where(_TYPE.id == bindparam("id"))
_MIN, _MAX = "provisioning:min_vol_size", "provisioning:max_vol_size"


class DefaultTypeMissingError(RequestError):
    """The configured default volume type does not exist: a fault of the installation, not of the request."""


@dataclass(frozen=True, slots=True)
class TypeChoice:
    """A volume type as far as a volume depends on it."""

    id: str
    name: str
    extra_specs: Mapping[str, str]

    @property
    def multiattach(self) -> bool:
        """Whether its volumes may be attached to several instances."""
        return self.extra_specs.get("multiattach") == "<is> True"

    @property
    def zones(self) -> frozenset[str] | None:
        """The availability zones it is restricted to; None when it is not."""
        text = self.extra_specs.get(types.ZONES_KEY)
        return frozenset(zone.strip() for zone in text.split(",") if zone.strip()) if text else None

    def check_size(self, size_gib: int) -> None:
        """Raise InvalidInputError when the type offers no volumes of that size."""
        smallest, largest = self.extra_specs.get(_MIN), self.extra_specs.get(_MAX)
        if _is_number(smallest) and size_gib < int(smallest):
            raise invalid_input(
                f"Specified volume size of '{size_gib}' is less than the minimum required size of '{smallest}' "
                f"for volume type '{self.name}'."
            )
        if _is_number(largest) and size_gib > int(largest):
            raise invalid_input(
                f"Specified volume size of '{size_gib}' is greater than the maximum allowable size of '{largest}' "
                f"for volume type '{self.name}'."
            )


def asked_type(db: Connection, caller: Caller, id_or_name: str) -> TypeChoice:
    """The type of that id or name. Raises NotFoundError, for a private type without access too."""
    return _choice(types.by_name_or_id(db, caller, id_or_name))


def type_of(db: Connection, type_id: str | None) -> TypeChoice | None:
    """The type of a volume that has it already, whoever asks."""
    row = db.execute(_OF_ID, {"id": type_id}).mappings().first() if type_id else None
    return _choice(row) if row else None


def default_type(db: Connection, settings: Settings, caller: Caller) -> TypeChoice:
    """The type of the project's volumes when none is asked for. Raises DefaultTypeMissingError."""
    try:
        return _choice(types.default_of(db, caller.project_id, settings.default_volume_type))
    except NotFoundError as error:
        raise DefaultTypeMissingError(str(error)) from error


def check_compatible(asked: TypeChoice, of_source: TypeChoice, kind: str) -> None:
    """Raise InvalidInputError when a copy could not be of the asked type, because that names another backend."""
    names = {choice.extra_specs.get("volume_backend_name") for choice in (asked, of_source)} - {None}
    if len(names) > 1:
        advice = "recommend omitting the type" if kind == "snapshot" else "either match source volume, or omit type"
        raise invalid_input(
            f"Invalid volume_type provided: {asked.id} (requested type is not compatible; {advice} argument)."
        )


def zone_of(
    db: Connection,
    settings: Settings,
    asked: str | None,
    source: tuple[str, str | None] | None,
    choice: TypeChoice,
) -> str | None:
    """The availability zone of a new volume; None when the type leaves the scheduler several.

    `source` is what it is copied from (`snapshot`, `source volume`) and that one's zone, which a copy shares.
    Raises InvalidInputError for a zone that no volume service is in, or that neither the type nor the source allows.
    """
    known = {*db.execute(select(_SERVICE.availability_zone).where(_SERVICE.binary == "cinder-volume")).scalars()}
    known.add(settings.availability_zone)
    allowed = known if choice.zones is None else known & choice.zones
    if not allowed:
        raise InvalidInputError(
            f"Volume type is only supported in these availability zones: {', '.join(sorted(choice.zones or ()))}"
        )
    kind, of_source = source or ("", None)
    zone = asked or of_source
    if zone is None:
        if choice.zones is not None:
            return next(iter(allowed)) if len(allowed) == 1 else None
        zone = settings.availability_zone
    if zone not in allowed:
        raise InvalidInputError(f"Availability zone '{zone}' is invalid.")
    if of_source and of_source != zone:
        raise invalid_input(f"Volume must be in the same availability zone as the {kind}")
    return zone


def _is_number(text: str | None) -> TypeGuard[str]:
    return text is not None and text.isascii() and text.isdecimal()


def _choice(row: Mapping[Any, Any]) -> TypeChoice:
    return TypeChoice(row["id"], row["name"], row["extra_specs"])
