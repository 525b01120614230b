"""Which export lets a consumer in: the one that serves it already, else the one that its type names, else the first
that serves its connector and can hold it to its limits. Knows no volume."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

from drivers.protocols import Export
from drivers.vocabulary import ConnectionSpec, Limits, UnsupportedError


def chosen(exports: Sequence[Export], spec: ConnectionSpec, serving: int | None, host: str) -> int:
    """The export's place in `exports`; `serving` is that of the one through which the consumer is let in now, if there
    is one: it was told that way, and may be using it. Raises UnsupportedError, which names the limits."""
    if serving is not None:
        if because := exports[serving].cannot_keep(spec.limits):
            raise UnsupportedError(
                f"connection {spec.id} is served by {exports[serving].protocol} of {host}, which cannot keep "
                f"{named(spec.limits)}: {because}; or detach the volume and attach it again"
            )
        return serving
    fitting = [number for number, export in enumerate(exports) if _fits(export, spec)]
    if not fitting:
        there = ", ".join(export.protocol for export in exports) or "none"
        wanted = f"is {spec.protocol}" if spec.protocol is not None else "serves this connector"
        raise UnsupportedError(f"no export of {host} {wanted}; its exports: {there}")
    reasons = {number: exports[number].cannot_keep(spec.limits) for number in fitting}
    keeping = next((number for number, because in reasons.items() if not because), None)
    if keeping is None:
        each = "; ".join(f"{exports[number].protocol}: {because}" for number, because in reasons.items())
        raise UnsupportedError(
            f"connection {spec.id}: no export of {host} that serves it keeps {named(spec.limits)} ({each}); "
            "change the QoS specs of the volume's type, or have the export nbd, which keeps them all"
        )
    return keeping


def named(limits: Limits) -> str:
    """The limits by the keys of QoS specs."""
    return ", ".join(f"{field}_sec={value}" for field, value in asdict(limits).items() if value is not None)


def _fits(export: Export, spec: ConnectionSpec) -> bool:
    if spec.protocol is not None:
        return export.protocol.lower() == spec.protocol.lower()
    return export.serves(spec.connector)
