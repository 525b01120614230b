"""Services as the wire shows them."""

from __future__ import annotations

from cluster.services.queries import VOLUME_BINARY, ServiceView

_CLUSTER_FROM = 7
_BACKEND_STATE_FROM = 49


def service(view: ServiceView, minor: int) -> dict[str, object]:
    """One service at 3.`minor`. There are no clusters and no replication, so their keys say so."""
    shown: dict[str, object] = {
        "binary": view.binary,
        "host": view.host,
        "zone": view.availability_zone,
        "status": "disabled" if view.disabled else "enabled",
        "state": "up" if view.up else "down",
        "updated_at": view.updated_at,
        "disabled_reason": view.disabled_reason,
    }
    if minor >= _CLUSTER_FROM:
        shown["cluster"] = None
    if view.binary == VOLUME_BINARY:
        shown |= {"replication_status": "disabled", "active_backend_id": None, "frozen": False}
        if minor >= _BACKEND_STATE_FROM:
            # The state of a backend nobody hears from is not known to be up.
            shown["backend_state"] = view.backend_state if view.up else "down"
    return shown


def change(host: str, service: str, binary: str, *, disabled: bool) -> dict[str, object]:
    """The answer to enable and disable."""
    status = "disabled" if disabled else "enabled"
    return {"host": host, "service": service, "binary": binary, "status": status, "disabled": disabled}
