"""The words of the filter and goodness language: numbers, quoted text, names, signs. Knows no grammar."""

from __future__ import annotations

import re
from typing import Final

from cluster.scheduling.errors import ExpressionError

_TOKEN: Final = re.compile(
    r"\s*(?:(?P<number>\d+(?:\.\d+)?)|(?P<text>'[^']*'|\"[^\"]*\")|(?P<word>[A-Za-z_.]+)"
    r"|(?P<sign>&&|\|\||<=|>=|==|!=|<>|[-+*/^!<>?:(),]))"
)
_WORD_SIGNS: Final = {"and": "&&", "AND": "&&", "or": "||", "OR": "||", "not": "!", "NOT": "!", "<>": "!="}
# Bounds the work, and the depth of what a chain of operators compiles to.
_MAX_TOKENS: Final = 400


def tokens(source: str) -> list[tuple[str, str]]:
    """(kind, text) of each part of `source`; kinds are number, text, word, sign, and `end` once, last.

    Words that are operators come as the sign they stand for. Raises ExpressionError.
    """
    found: list[tuple[str, str]] = []
    end = 0
    while source[end:].strip():
        match = _TOKEN.match(source, end)
        if match is None:
            raise ExpressionError(f"{source[:80]!r} is unreadable at {source[end:].strip()[:20]!r}")
        if len(found) == _MAX_TOKENS:
            raise ExpressionError(f"{source[:80]!r} has more than {_MAX_TOKENS} parts")
        kind = match.lastgroup or ""
        text = match[kind]
        found.append(("sign", _WORD_SIGNS[text]) if text in _WORD_SIGNS else (kind, text))
        end = match.end()
    found.append(("end", "the end"))
    return found
