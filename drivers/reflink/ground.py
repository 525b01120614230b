"""What a pool's directory stands on: a file system that is simply there, or one the pool brings. Knows no volumes."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol


class Ground(Protocol):
    """Called in a thread; errors are those of `drivers.vocabulary` or OSError."""

    def prepare(self, directory: Path) -> None:
        """Have the file system of `directory` there (mounted, say) before the pool is looked for. Safe to repeat."""
        ...

    def release(self, directory: Path) -> None:
        """The pool in `directory` was let go of. Safe to repeat, and what is still in use stays."""
        ...

    def free_bytes(self) -> int | None:
        """How many bytes the ground itself can still give the pool; None when the file system's own word is enough."""
        ...

    def remarks(self) -> dict[str, str | int | float | bool]:
        """What an operator should see among the pool's capabilities."""
        ...


class GivenGround:
    """A directory on a file system that somebody else cares for."""

    def prepare(self, directory: Path) -> None:
        """Nothing to do."""

    def release(self, directory: Path) -> None:
        """Nothing to do."""

    def free_bytes(self) -> int | None:
        """The file system's own word is enough."""
        return None

    def remarks(self) -> dict[str, str | int | float | bool]:
        """None."""
        return {}
