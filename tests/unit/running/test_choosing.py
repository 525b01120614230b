"""The choice of an export: by its limits too, and for a consumer that is let in already the one it was told."""

from __future__ import annotations

import pytest

from actors.choosing import chosen
from drivers.vocabulary import UNLIMITED, AccessMode, ConnectionSpec, Limits, UnsupportedError
from tests.unit.attachments.memory_export import ExportStore, MemoryExport

LIMITS = Limits(total_iops=100, read_bytes=5)


def _exports(*reasons: str) -> list[MemoryExport]:
    made = [MemoryExport(ExportStore(), protocol) for protocol in ("local", "iSCSI", "nbd")]
    for export, reason in zip(made, reasons, strict=False):
        export.keeps_not = reason
    return made


def _spec(limits: Limits = UNLIMITED, protocol: str | None = None, host: str = "n1") -> ConnectionSpec:
    mode = AccessMode.READ_WRITE
    return ConnectionSpec("c1", "v1", 1, mode, {"host": host} if host else {}, "ab" * 32, protocol, limits)


def test_the_first_that_keeps_the_limits() -> None:
    exports = _exports("no totals", "knows none")
    assert chosen(exports, _spec(), None, "h1@left") == 0
    assert chosen(exports, _spec(LIMITS), None, "h1@left") == 2
    assert chosen(exports, _spec(LIMITS, protocol="NBD"), None, "h1@left") == 2


def test_who_is_let_in_stays_where_he_is() -> None:
    exports = _exports("no totals", "knows none")
    assert chosen(exports, _spec(), 2, "h1@left") == 2
    assert chosen(exports, _spec(protocol="local"), 1, "h1@left") == 1
    with pytest.raises(UnsupportedError, match=r"served by local .*total_iops_sec=100.*no totals.*attach it again"):
        chosen(exports, _spec(LIMITS), 0, "h1@left")


@pytest.mark.parametrize("protocol", [None, "local"])
def test_limits_that_none_keeps_are_named(protocol: str | None) -> None:
    exports = _exports("no totals", "knows none", "is asleep")
    with pytest.raises(UnsupportedError) as refused:
        chosen(exports, _spec(LIMITS, protocol), None, "h1@left")
    said = str(refused.value)
    assert "total_iops_sec=100, read_bytes_sec=5" in said
    assert "local: no totals" in said
    assert ("nbd: is asleep" in said) == (protocol is None)
    assert "change the QoS specs" in said
