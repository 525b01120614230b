"""Unit tests start no Ray: whoever tries is told so."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import ray


@pytest.fixture(autouse=True)
def no_ray(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a unit test must not start or join a Ray cluster")

    monkeypatch.setattr(ray, "init", refuse)
    yield
    assert not ray.is_initialized()
