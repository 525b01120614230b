"""Which reported pools suit a volume type, by its extra specs: for `get_pools?volume_type=`.

Looks at what was reported only; the scheduler decides with more (capacity, zones, what was promised since).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cluster.scheduling.errors import LabelSelectorError
from cluster.scheduling.extra_specs import label_terms, requirements
from cluster.scheduling.labels import parse_selector


def suits(stats: Mapping[str, Any], specs: Mapping[str, str]) -> bool:
    """Whether a pool with the capabilities document `stats` has what the extra specs ask for. A selector that is none
    suits nothing."""
    try:
        terms = [(key, parse_selector(text)) for key, text in label_terms(specs)]
    except LabelSelectorError:
        return False
    labelled = all(selector.matches(stats.get(f"label:{key}")) for key, selector in terms)
    return labelled and all(asked.test(_at(stats, asked.path)) for asked in requirements(specs))


def _at(stats: Mapping[str, Any], path: tuple[str, ...]) -> object:
    found: object = stats
    for part in path:
        found = found.get(part) if isinstance(found, Mapping) else None
    return found
