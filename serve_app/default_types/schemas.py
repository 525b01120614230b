"""Bodies of default type requests, and the shapes of the answers."""

from __future__ import annotations

from pydantic import BaseModel

from serve_app.wire.fields import RequiredName255
from serve_app.wire.route import Body


class Wanted(Body):
    """The type that a project is to get by default: its name or id."""

    volume_type: RequiredName255


class SetDefaultType(Body):
    """PUT /default-types/{project_id}."""

    default_type: Wanted


class DefaultTypeView(BaseModel):
    """A project and its default type."""

    project_id: str
    volume_type_id: str


class DefaultTypeReply(BaseModel):
    """One default type."""

    default_type: DefaultTypeView


class DefaultTypesReply(BaseModel):
    """Default types."""

    default_types: list[DefaultTypeView]
