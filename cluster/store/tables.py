"""All tables, so that migrations and tests see one complete metadata."""

from __future__ import annotations

from sqlmodel import SQLModel

import cluster.attachments.records
import cluster.identity.records
import cluster.journal.records
import cluster.messages.records
import cluster.qos_specs.records
import cluster.quotas.records
import cluster.reconcile.records
import cluster.services.records
import cluster.snapshots.records
import cluster.volume_types.records
import cluster.volumes.records  # noqa: F401

metadata = SQLModel.metadata
