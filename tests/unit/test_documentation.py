"""What the documents say of the settings is what the settings are."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import BaseModel

from cluster.settings import (
    BackendSettings,
    IdentitySettings,
    QuotaSettings,
    SchedulerSettings,
    Settings,
    TimingSettings,
)

REFERENCE = (Path(__file__).parents[2] / "docs" / "reference.md").read_text()
TABLES: list[type[BaseModel]] = [
    Settings, IdentitySettings, BackendSettings, QuotaSettings, SchedulerSettings, TimingSettings,
]  # fmt: skip
NESTED = {"identity", "backends", "quotas", "timing", "scheduler"}


@pytest.mark.parametrize("model", TABLES)
def test_every_setting_is_documented(model: type[BaseModel]) -> None:
    missing = [name for name in model.model_fields if name not in NESTED and f"`{name}`" not in REFERENCE]
    assert missing == []


@pytest.mark.parametrize("model", TABLES)
def test_documented_numbers_are_the_defaults(model: type[BaseModel]) -> None:
    for name, field in model.model_fields.items():
        if type(field.default) in (int, float):
            number = f"{field.default:g}" if field.default < 1e6 else str(int(field.default))
            row = next(line for line in REFERENCE.splitlines() if f"`{name}`" in line)
            assert any(text in row for text in (number, str(field.default))), (name, number, row)
