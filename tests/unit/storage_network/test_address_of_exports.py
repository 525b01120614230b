"""Exports listen on the storage network unless they are told an address of their own."""

from __future__ import annotations

from pathlib import Path

import pytest

from drivers import export_registry

ELSEWHERE = {"host": "another", "initiator": "iqn.1994-05.org.example:another"}


@pytest.mark.parametrize("name", ["nbd", "iscsi"])
@pytest.mark.parametrize(
    ("options", "network", "reachable"),
    [
        ({}, "10.2.0.5", True),
        ({}, "fd00::5", True),
        ({}, "127.0.0.1", False),
        ({"address": "127.0.0.1"}, "10.2.0.5", False),
        ({"address": "10.3.0.5"}, "127.0.0.1", True),
        ({}, None, False),
    ],
)
def test_consumers_from_elsewhere(
    tmp_path: Path, name: str, options: dict[str, object], network: str | None, reachable: bool
) -> None:
    export = export_registry.create(name, options, tmp_path, "fast", "h1", address=network)
    assert export.serves(ELSEWHERE) is reachable
    assert export.serves({**ELSEWHERE, "host": "h1"})


def test_an_export_that_listens_nowhere_is_told_nothing(tmp_path: Path) -> None:
    assert not export_registry.create("local", {}, tmp_path, "fast", "h1", address="10.2.0.5").serves(ELSEWHERE)
