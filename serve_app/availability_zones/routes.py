"""Availability zones: those that volume services are in."""

from __future__ import annotations

from cluster.services import queries
from serve_app.availability_zones import schemas
from serve_app.wire.route import Call, Reply, Route


async def index(call: Call) -> Reply:
    """GET /os-availability-zone. A zone is available while an enabled service there is up."""
    room = call.room
    zones = await room.store.read(
        lambda db: queries.availability_zones(db, room.outside.seconds(), room.settings.timing.service_down)
    )
    shown = [{"zoneName": name, "zoneState": {"available": available}} for name, available in sorted(zones.items())]
    return Reply(body={"availabilityZoneInfo": shown})


ROUTES = (Route("GET", "/os-availability-zone", index, "-", "List availability zones", reply=schemas.ZonesReply),)
