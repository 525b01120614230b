"""QoS specs as the wire shows them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def qos_spec(row: Mapping[str, Any]) -> dict[str, Any]:
    """One item, as lists and `qos_specs` hold it."""
    return {key: row[key] for key in ("id", "name", "consumer", "specs")}


def association(volume_type: Mapping[str, str]) -> dict[str, str]:
    """A volume type that has the specs."""
    return {"association_type": "volume_type", "name": volume_type["name"], "id": volume_type["id"]}
