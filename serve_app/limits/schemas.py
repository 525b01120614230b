"""The shape of limits."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, Field


class Absolute(BaseModel):
    """Limits of a project (-1: unlimited) and, for who may see it, what it uses."""

    max_total_volumes: int = Field(alias="maxTotalVolumes")
    max_total_snapshots: int = Field(alias="maxTotalSnapshots")
    max_total_backups: int = Field(alias="maxTotalBackups")
    max_total_volume_gigabytes: int = Field(alias="maxTotalVolumeGigabytes")
    max_total_backup_gigabytes: int = Field(alias="maxTotalBackupGigabytes")
    total_volumes_used: int = Field(default=0, alias="totalVolumesUsed")
    total_gigabytes_used: int = Field(default=0, alias="totalGigabytesUsed")
    total_snapshots_used: int = Field(default=0, alias="totalSnapshotsUsed")
    total_backups_used: int = Field(default=0, alias="totalBackupsUsed")
    total_backup_gigabytes_used: int = Field(default=0, alias="totalBackupGigabytesUsed")


class Limits(BaseModel):
    """Rates (there are none) and absolute limits."""

    rate: list[Any]
    absolute: Absolute


class LimitsReply(BaseModel):
    """Limits."""

    limits: Limits
