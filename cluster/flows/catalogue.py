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
    extend_volume,
    open_connection,
)
from cluster.flows.run import Flow

FLOWS: Mapping[str, Flow] = {
    module.FLOW.kind: module.FLOW
    for module in (
        create_volume,
        delete_volume,
        extend_volume,
        create_snapshot,
        delete_snapshot,
        adopt_orphan,
        delete_orphan,
        open_connection,
        close_connection,
    )
}
