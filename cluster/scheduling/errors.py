"""What scheduling can refuse.

SchedulingError
├── HostNameError        text that is not `host[@backend[#pool]]`
├── ExpressionError      a filter or goodness function that cannot be read or worked out
├── QueryError           a `query` hint that cannot be read or worked out
├── LabelSelectorError   a value that is not in Ray's selector syntax
└── NoPlacementError     no pool passed (decide.py; carries the Refusal)
"""

from __future__ import annotations


class SchedulingError(Exception):
    """Scheduling could not do what was asked."""


class HostNameError(SchedulingError):
    """The text does not name a host, a backend or a pool."""


class ExpressionError(SchedulingError):
    """The expression cannot be read or worked out."""


class QueryError(SchedulingError):
    """The query hint cannot be read or worked out."""


class LabelSelectorError(SchedulingError):
    """The value is not a Ray label selector."""
