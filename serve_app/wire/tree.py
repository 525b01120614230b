"""Finding what serves a method and a path: a tree of path segments, so that the cost grows with the path's length
and not with the number of routes. A literal segment goes before a parameter."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Generic, TypeVar

T = TypeVar("T")
_METHODS = ("GET", "POST", "PUT", "DELETE", "PATCH", "HEAD")


class _Node(Generic[T]):
    __slots__ = ("leaves", "literals", "parameter")

    def __init__(self) -> None:
        self.literals: dict[str, _Node[T]] = {}
        self.parameter: _Node[T] | None = None
        self.leaves: dict[str, tuple[T, tuple[str, ...]]] = {}


class Tree(Generic[T]):
    """Things by method and path pattern (`/volumes/{volume_id}`)."""

    def __init__(self) -> None:
        self._root: _Node[T] = _Node()
        self._all: list[tuple[str, str, T]] = []

    def add(self, method: str, path: str, thing: T) -> None:
        """Serve `method path` with `thing`. Raises ValueError if something else already does, or for no method."""
        if method not in _METHODS or not path.startswith("/"):
            raise ValueError(f"{method} {path}: not a method and a path")
        node, names = self._root, []
        for segment in path[1:].split("/"):
            if segment.startswith("{") and segment.endswith("}"):
                names.append(segment[1:-1])
                node.parameter = node.parameter or _Node()
                node = node.parameter
            else:
                node = node.literals.setdefault(segment, _Node())
        if method in node.leaves:
            raise ValueError(f"{method} {path}: two routes for it")
        node.leaves[method] = (thing, tuple(names))
        self._all.append((method, path, thing))

    def find(self, method: str, segments: Sequence[str]) -> tuple[T, dict[str, str]] | None:
        """What serves `method` at the path of these segments, with the values of its parameters."""
        values: list[str] = []
        leaf = _find(self._root, method, segments, 0, values)
        return None if leaf is None else (leaf[0], dict(zip(leaf[1], values, strict=True)))

    def __iter__(self) -> Iterator[tuple[str, str, T]]:
        return iter(self._all)


def _find(
    node: _Node[T], method: str, segments: Sequence[str], position: int, values: list[str]
) -> tuple[T, tuple[str, ...]] | None:
    if position == len(segments):
        return node.leaves.get(method)
    segment = segments[position]
    literal = node.literals.get(segment)
    if literal is not None:
        leaf = _find(literal, method, segments, position + 1, values)
        if leaf is not None:
            return leaf
    if node.parameter is not None and segment:
        values.append(segment)
        leaf = _find(node.parameter, method, segments, position + 1, values)
        if leaf is not None:
            return leaf
        values.pop()
    return None
