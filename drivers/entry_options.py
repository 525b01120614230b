"""What the registries of drivers and exports share: finding a third party's entry point, and options that are wrong in
words. Knows neither drivers nor exports."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from importlib.metadata import entry_points
from typing import TypeVar

from pydantic import BaseModel, ValidationError

Kind = TypeVar("Kind")
Options = TypeVar("Options", bound=BaseModel)


def names(group: str, own: Iterable[str]) -> list[str]:
    """Pumice's `own` and those of the entry point group, sorted."""
    return sorted({*own, *(point.name for point in entry_points(group=group))})


def find(group: str, kind: type[Kind], what: str, name: str, own: Iterable[str]) -> Kind:
    """The `kind` that the entry point `name` of a third party names; `what` it is, as `driver`.

    Raises TypeError when it is something else; ValueError when there is none.
    """
    for point in entry_points(group=group, name=name):
        loaded = point.load()
        if not isinstance(loaded, kind):
            raise TypeError(f"entry point {point.value!r} of {what} {name!r} is no {kind.__module__}.{kind.__name__}")
        return loaded
    raise ValueError(f"there is no {what} {name!r}; there are {', '.join(names(group, own))}")


def checked(model: type[Options], options: Mapping[str, object], whose: str) -> Options:
    """`options` as their model has them. Raises ValueError, which says `whose` they are, what is wrong, and what is
    allowed."""
    try:
        return model.model_validate(dict(options))
    except ValidationError as error:
        raise ValueError(_explained(model, whose, error)) from error


def _explained(model: type[BaseModel], whose: str, error: ValidationError) -> str:
    allowed = ", ".join(sorted(model.model_fields)) or "none"
    wrong = "; ".join(
        f"{'.'.join(str(part) for part in fault['loc'])!r}: "
        + ("unknown option" if fault["type"] == "extra_forbidden" else fault["msg"])
        for fault in error.errors()
    )
    return f"{whose}: {wrong} (its options are {allowed})"
