"""Names of places."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.scheduling.errors import HostNameError
from cluster.scheduling.host_name import HostName, Level, covers, extract, service_of


@pytest.mark.parametrize(
    ("text", "host", "service", "pool"),
    [
        ("h", "h", "h", None),
        ("h@b", "h", "h@b", None),
        ("h@b#p", "h", "h@b", "p"),
        ("h#p", "h", "h", "p"),
        ("h@b#p#q@r", "h", "h@b", "p#q@r"),
    ],
)
def test_each_level_of_a_name(text: str, host: str, service: str, pool: str | None) -> None:
    assert extract(text, Level.HOST) == host
    assert extract(text, Level.BACKEND) == service
    assert extract(text, Level.POOL) == pool
    assert str(HostName.parse(text)) == text
    assert service_of(text) == service


@pytest.mark.parametrize("text", ["", "@b", "#p", "h@", "h@#p", "h@b#", "h" * 256])
def test_what_is_no_name_is_refused(text: str) -> None:
    with pytest.raises(HostNameError, match="write host"):
        HostName.parse(text)


@pytest.mark.parametrize(
    ("place", "pool", "covered"),
    [
        ("h@b#p", "h@b#p", True),
        ("h@b", "h@b#p", True),
        ("h@b#q", "h@b#p", False),
        ("h", "h@b#p", False),
        ("h@b2", "h@b#p", False),
    ],
)
def test_a_service_covers_its_pools_only(place: str, pool: str, covered: bool) -> None:
    assert covers(place, pool) is covered


@given(st.text(max_size=40))
def test_any_text_parses_back_to_itself_or_is_refused(text: str) -> None:
    try:
        name = HostName.parse(text)
    except HostNameError:
        return
    assert str(name) == text
