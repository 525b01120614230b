"""Promises: repeats are harmless, sums are a recount."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.scheduling.ledger import Ledger, Usage


def test_a_repeated_promise_is_one_promise() -> None:
    ledger = Ledger()
    for _ in range(3):
        ledger.reserve("v", "h@b#p", 10, now=0.0)
    assert ledger.usage("h@b#p") == Usage(10, 10, 1)
    for _ in range(2):
        ledger.release("v")
    assert ledger.usage("h@b#p") == Usage()
    assert ledger.hosts() == frozenset()


def test_another_pool_or_size_replaces_the_old() -> None:
    ledger = Ledger()
    ledger.reserve("v", "a", 10, now=0.0)
    ledger.reserve("v", "b", 20, now=0.0)
    assert (ledger.usage("a"), ledger.usage("b")) == (Usage(), Usage(20, 20, 1))
    ledger.reserve("v", "b", 25, now=0.0)
    assert ledger.usage("b") == Usage(25, 25, 1)


def test_a_report_shows_what_was_promised_before_it() -> None:
    ledger = Ledger()
    ledger.reserve("v", "a", 10, now=0.0)
    ledger.reserve("w", "b", 10, now=0.0)
    ledger.reported("a")
    assert (ledger.usage("a"), ledger.usage("b")) == (Usage(10, 0, 1), Usage(10, 10, 1))
    ledger.resize("v", 15, now=0.0)
    assert ledger.usage("a") == Usage(15, 5, 1)
    ledger.resize("v", 10, now=0.0)
    ledger.resize("v", 7, now=0.0)
    assert ledger.usage("a") == Usage(7, 0, 1)


def test_a_resize_or_release_of_nothing_is_nothing() -> None:
    ledger = Ledger()
    ledger.resize("v", 10, now=0.0)
    ledger.release("v")
    assert ledger.entry("v") is None


def test_rebuild_takes_the_records_and_keeps_the_young() -> None:
    ledger = Ledger()
    ledger.reserve("old", "a", 1, now=0.0)
    ledger.reserve("young", "a", 2, now=95.0)
    ledger.reserve("moved-long-ago", "a", 4, now=0.0)
    ledger.reserve("grown-just-now", "a", 8, now=0.0)
    ledger.resize("grown-just-now", 16, now=99.0)
    ledger.rebuild([("moved-long-ago", "b", 4), ("grown-just-now", "a", 8), ("known", "b", 32)], 100.0, 10.0)
    assert ledger.entry("old") is None
    assert ledger.usage("a") == Usage(18, 18, 2)
    assert ledger.usage("b") == Usage(36, 0, 2)
    # Young no longer: the records win.
    ledger.rebuild([("grown-just-now", "a", 8)], 200.0, 10.0)
    assert ledger.usage("a") == Usage(8, 0, 1)
    assert ledger.hosts() == {"a"}


def test_a_promise_is_not_negative() -> None:
    ledger = Ledger()
    with pytest.raises(ValueError, match="0 GiB or more"):
        ledger.reserve("v", "a", -1, now=0.0)
    ledger.reserve("v", "a", 1, now=0.0)
    with pytest.raises(ValueError, match="0 GiB or more"):
        ledger.resize("v", -1, now=0.0)
    assert ledger.usage("a") == Usage(1, 1, 1)


_VOLUME = st.sampled_from("uvwxyz")
_HOST = st.sampled_from("abc")
_GIB = st.integers(0, 50)
_STEPS: st.SearchStrategy[Callable[[Ledger, float], None]] = st.one_of(
    st.builds(lambda v, h, g: lambda ledger, now: ledger.reserve(v, h, g, now), _VOLUME, _HOST, _GIB),
    st.builds(lambda v, g: lambda ledger, now: ledger.resize(v, g, now), _VOLUME, _GIB),
    st.builds(lambda v: lambda ledger, now: ledger.release(v), _VOLUME),
    st.builds(lambda h: lambda ledger, now: ledger.reported(h), _HOST),
    st.builds(
        lambda rows: lambda ledger, now: ledger.rebuild(rows, now, 5.0), st.lists(st.tuples(_VOLUME, _HOST, _GIB))
    ),
)


@given(st.lists(_STEPS, max_size=40))
def test_sums_are_a_recount(steps: list[Callable[[Ledger, float], None]]) -> None:
    ledger = Ledger()
    for now, step in enumerate(steps):
        step(ledger, float(now))
        for host in "abc":
            there = [entry for volume in "uvwxyz" if (entry := ledger.entry(volume)) and entry.host == host]
            assert all(0 <= entry.unreported_gib <= entry.gib for entry in there)
            assert ledger.usage(host) == Usage(
                sum(entry.gib for entry in there), sum(entry.unreported_gib for entry in there), len(there)
            )
            assert (host in ledger.hosts()) is bool(there)
