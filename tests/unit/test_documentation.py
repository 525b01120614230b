"""What the documents say of the settings is what the settings are; what they point to is there; commands are listed."""

from __future__ import annotations

import re
from pathlib import Path

import click
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
from cluster.storage_network.settings import StorageNetworkSettings
from serve_app.command.main import pumice

ROOT = Path(__file__).parents[2]
REFERENCE = (ROOT / "docs" / "reference.md").read_text()
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
LINK = re.compile(r"\]\(([^)\s]+)\)")
TABLES: list[type[BaseModel]] = [
    Settings, IdentitySettings, StorageNetworkSettings, BackendSettings, QuotaSettings, SchedulerSettings,
    TimingSettings,
]  # fmt: skip
NESTED = {"identity", "storage_network", "backends", "quotas", "timing", "scheduler"}


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


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_leads_to_a_file(page: Path) -> None:
    targets = [target.split("#")[0] for target in LINK.findall(page.read_text()) if "://" not in target]
    assert [target for target in targets if not (page.parent / target).exists()] == []


@pytest.mark.parametrize("page", [ROOT / "README.md", ROOT / "docs" / "operations.md"], ids=lambda page: page.name)
def test_every_command_is_listed(page: Path) -> None:
    rows = "\n".join(line for line in page.read_text().splitlines() if line.startswith("| `pumice "))
    missing = []
    for name, command in pumice.commands.items():
        words = [name, *(command.commands if isinstance(command, click.Group) else [])]
        missing += [(name, word) for word in words if not re.search(rf"\b{name}\b.*\b{word}\b|`pumice {word}\b", rows)]
    assert missing == []
