"""The kept document is the one that the routes make, and it is one."""

from __future__ import annotations

from pathlib import Path

import orjson
import schemathesis

from serve_app.app import ACTIONS, ROUTES
from serve_app.wire.openapi import document, rendered

KEPT = Path(__file__).resolve().parents[3] / "docs" / "openapi.json"


def test_the_kept_document_is_current() -> None:
    assert KEPT.read_bytes() == rendered(ROUTES, ACTIONS), "python -m serve_app.wire.openapi > docs/openapi.json"


def test_the_document_is_valid_and_names_every_operation_once() -> None:
    made = document(ROUTES, ACTIONS)
    schemathesis.openapi.from_dict(made).validate()
    names = [operation["operationId"] for path in made["paths"].values() for operation in path.values()]
    assert len(names) == len(set(names)) == len(ROUTES) + len({action.path for action in ACTIONS})


def test_every_reference_leads_somewhere() -> None:
    made = orjson.loads(rendered(ROUTES, ACTIONS))
    waiting, references = [made], set()
    while waiting:
        item = waiting.pop()
        if isinstance(item, dict):
            references.add(item.get("$ref"))
            waiting += item.values()
        elif isinstance(item, list):
            waiting += item
    for reference in references - {None}:
        here = made
        for step in reference.removeprefix("#/").split("/"):
            here = here[step]
