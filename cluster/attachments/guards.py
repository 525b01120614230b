"""What every intent that gives a consumer a volume checks first, whatever the volume's status says."""

from __future__ import annotations

from sqlalchemy import Connection

from cluster.journal.intents import refuse_while_live
from cluster.volumes.queries import VolumeRow
from cluster.volumes.refusals import invalid_volume


def refuse_unmade(db: Connection, volume: VolumeRow) -> None:
    """Raise InvalidStateError unless there is a volume and it stays one: an administrator may have written the status
    of one that is being made or deleted, or that was never placed."""
    refuse_while_live(db, "volume", [volume["id"]], "volume.create")
    refuse_while_live(db, "volume", [volume["id"]], "volume.delete")
    if volume["host"] is None:
        raise invalid_volume(f"Volume {volume['id']} is on no backend; it cannot be attached.")


def is_readonly(volume: VolumeRow) -> bool:
    """Whether the volume may be attached read-only alone."""
    return volume["admin_metadata"].get("readonly") == "True"
