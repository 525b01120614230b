"""Who asks: the identity that every intent and read is made for."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Caller:
    """The authenticated caller of one request. `project_id` is the project the token is for; `is_admin` lets it see
    and act beyond that project; `is_service`: another service of the cloud sent the request on (it came with a valid
    service token); `request_id` (`req-<uuid>`) runs through the journal to the driver's log lines."""

    user_id: str
    project_id: str
    request_id: str
    roles: frozenset[str] = field(default_factory=frozenset)
    is_admin: bool = False
    global_request_id: str | None = None
    user_name: str | None = None
    project_name: str | None = None
    is_service: bool = False
