"""All flows by their kind."""

from __future__ import annotations

from collections.abc import Mapping

from cluster.flows import (
    adopt_orphan,
    close_connection,
    create_snapshot,
    create_volume,
    delete_orphan,
    delete_snapshot,
    delete_volume,
    examine,
    extend_volume,
    open_connection,
)
from cluster.flows.run import Flow

FLOWS: Mapping[str, Flow] = {
    flow.kind: flow
    for flow in (
        create_volume.FLOW,
        delete_volume.FLOW,
        extend_volume.FLOW,
        create_snapshot.FLOW,
        delete_snapshot.FLOW,
        adopt_orphan.FLOW,
        delete_orphan.FLOW,
        examine.VOLUME_FLOW,
        examine.SNAPSHOT_FLOW,
        open_connection.FLOW,
        close_connection.FLOW,
    )
}
