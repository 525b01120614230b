"""What is to be placed, and what it asks of a pool. Read once a request, then only looked at.

Resolving volume ids to hosts is the caller's work (`hosts_of`): this module reads no records.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from enum import StrEnum
from functools import cached_property
from typing import Final

from cluster.scheduling import extra_specs as specs
from cluster.scheduling import json_query
from cluster.scheduling.errors import LabelSelectorError, QueryError
from cluster.scheduling.labels import LabelSelector, parse_selector

_UUID: Final = re.compile(r"[0-9a-fA-F]{8}-?(?:[0-9a-fA-F]{4}-?){3}[0-9a-fA-F]{12}")


class Operation(StrEnum):
    """Why room is asked for. MANAGE adopts what already occupies the pool, so it asks for none."""

    CREATE = "create"
    EXTEND = "extend"
    MANAGE = "manage"


@dataclass(frozen=True, slots=True)
class LabelTerm:
    """A node label asked for: `key` must satisfy `selector`; `error` says why the text was none."""

    key: str
    text: str
    selector: LabelSelector | None
    error: str | None = None


@dataclass(frozen=True)
class PlacementRequest:
    """A wish for a pool. Sizes are GiB.

    `size_gib` is the volume's size afterwards and `current_size_gib` its size before (EXTEND only). `hints` is the
    object of `OS-SCH-HNT:scheduler_hints`; `hosts_of` says where the volumes it names live. `required_host` is a pool
    or a service: of a source for clones and restores, of the volume itself for EXTEND and MANAGE. `exclude_hosts` were
    tried in vain; `exists_on` is where the volume lives already (a retype). `attached` matters to EXTEND.
    Raises ValueError for sizes below 0, a shrink, or EXTEND and MANAGE without `required_host`.
    """

    volume_id: str
    size_gib: int
    operation: Operation = Operation.CREATE
    current_size_gib: int = 0
    availability_zone: str | None = None
    extra_specs: Mapping[str, str] = field(default_factory=dict)
    qos_specs: Mapping[str, object] = field(default_factory=dict)
    volume_properties: Mapping[str, object] = field(default_factory=dict)
    hints: Mapping[str, object] = field(default_factory=dict)
    hosts_of: Mapping[str, str] = field(default_factory=dict)
    required_host: str | None = None
    exclude_hosts: frozenset[str] = frozenset()
    exists_on: str | None = None
    attached: bool = False

    def __post_init__(self) -> None:
        if self.operation is not Operation.CREATE and self.required_host is None:
            raise ValueError(f"volume {self.volume_id}: {self.operation} needs required_host, the volume's own pool")
        if self.size_gib < 0 or self.current_size_gib < 0:
            raise ValueError(f"volume {self.volume_id}: sizes are GiB from 0 up, not {self.size_gib}")
        if self.operation is Operation.EXTEND and self.size_gib < self.current_size_gib:
            raise ValueError(
                f"volume {self.volume_id}: cannot shrink from {self.current_size_gib} to {self.size_gib} GiB"
            )

    @cached_property
    def asked_gib(self) -> int:
        """The room to look for: the growth of an extend, nothing for a manage, else the size."""
        if self.operation is Operation.MANAGE:
            return 0
        return self.size_gib - (self.current_size_gib if self.operation is Operation.EXTEND else 0)

    @property
    def follows_source(self) -> bool:
        """Whether the pool is dictated by a source, so that only room is checked (scheduler facts §8)."""
        return self.operation is Operation.CREATE and self.required_host is not None

    @cached_property
    def requirements(self) -> tuple[specs.Requirement, ...]:
        """What the type asks of a pool's capabilities."""
        return specs.requirements(self.extra_specs)

    @cached_property
    def label_terms(self) -> tuple[LabelTerm, ...]:
        """Node labels asked for by the type and by the hints; all must hold."""
        terms = []
        for key, text in (*specs.label_terms(self.extra_specs), *specs.label_terms(self.hints)):
            try:
                terms.append(LabelTerm(key, text, parse_selector(text)))
            except LabelSelectorError as error:
                terms.append(LabelTerm(key, text, None, str(error)))
        return tuple(terms)

    @cached_property
    def thin(self) -> bool:
        """Whether room is counted thin where the pool can."""
        return specs.wants_thin(self.extra_specs)

    @cached_property
    def zones(self) -> frozenset[str] | None:
        """The availability zones that will do (none at all when zone and type disagree); None when any will."""
        allowed = specs.zones(self.extra_specs)
        if not self.availability_zone:
            return allowed or None
        return frozenset({self.availability_zone}) & (allowed or {self.availability_zone})

    @cached_property
    def query(self) -> json_query.Query | None:
        """The `query` hint, read; None when there is none. Raises QueryError."""
        hint = self.hints.get("query")
        if not hint:
            return None
        if not isinstance(hint, (str, list)):
            raise QueryError("the query hint is a JSON list or its text")
        return json_query.read(hint)

    @cached_property
    def different_hosts(self) -> frozenset[str] | None:
        """Where the volumes of the hint different_host live. None when it names something that is no volume id.

        Cinder refuses every pool then, rather than serve a wish it did not understand.
        """
        return self._hosts_of("different_host")

    @cached_property
    def same_hosts(self) -> frozenset[str] | None:
        """The same of the hint same_host."""
        return self._hosts_of("same_host")

    def _hosts_of(self, hint: str) -> frozenset[str] | None:
        value = self.hints.get(hint)
        given: list[object] = list(value) if isinstance(value, (list, tuple)) else [] if value is None else [value]
        ids = [one for one in given if isinstance(one, str) and _UUID.fullmatch(one)]
        return frozenset(self.hosts_of[one] for one in ids if one in self.hosts_of) if len(ids) == len(given) else None

    def __getstate__(self) -> dict[str, object]:
        # What was read from the fields stays here: it is cheap to read again and not made to travel.
        return {known.name: getattr(self, known.name) for known in fields(self)}
