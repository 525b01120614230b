"""Named points between the steps of a call, where a test may end the process. Must not know what the steps do.

A call that makes an object passes `created` (an empty partial file), `filling` (copying only: after each piece),
`filled` (content, size and parent are in the partial), `synced` (the partial is durable), `renamed` (it has its final
name), `settled` (so has the directory on disk). Growing passes `resized`, `settled`; deleting `unlinked`, `settled`;
a first `open` passes `marker-written`, `marker-renamed`, `marked`, `remembered`.
"""

from __future__ import annotations

from collections.abc import Callable

Checkpoint = Callable[[str], None]


def pass_by(_point: str) -> None:
    """The checkpoint of production: nothing happens."""
