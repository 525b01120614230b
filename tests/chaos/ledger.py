"""What the clients asked for, what they were told, and so what must and what may be there afterwards. No HTTP here.

Every attempt to make something has a name of its own, so that what a lost answer has left can be found: once, or not
at all. Whoever was told "accepted" must find it; whoever was told "no" must not.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from enum import StrEnum


class Verdict(StrEnum):
    """What a client knows of its request: accepted (2xx), refused (4xx), or neither (5xx, no answer)."""

    ACKNOWLEDGED = "acknowledged"
    REFUSED = "refused"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class Answer:
    """The answer to one request: `error` says in a word what was wrong with it, if something was."""

    verdict: Verdict
    status: int | None
    error: str | None
    body: dict[str, object] = field(default_factory=dict)

    @property
    def label(self) -> str:
        """How the report counts it: the status, or what became of the connection."""
        return str(self.status) if self.status is not None else str(self.error)


@dataclass(eq=False)
class Item:
    """A volume or snapshot as the clients know it. `sizes` are the GiB it may have; `blocks` is what it must contain
    (offset → digest of each block that is not all zeros), None when that is not known. `parent` is a snapshot's volume.
    """

    collection: str
    name: str
    creation: Verdict
    id: str | None
    sizes: set[int]
    blocks: dict[int, str] | None
    parent: Item | None = None
    deletion: Verdict | None = None

    @property
    def usable(self) -> bool:
        """Whether a client would work with it: it was made for certain, and nobody asked for its deletion."""
        return self.id is not None and self.deletion is None


class Ledger:
    """Of all clients together. `requests` counts by what was asked and how it was answered."""

    def __init__(self) -> None:
        self.items: list[Item] = []
        self.requests: Counter[tuple[str, str]] = Counter()
        self.verdicts: Counter[Verdict] = Counter()

    def count(self, what: str, answer: Answer) -> None:
        """One request more."""
        self.requests[what, answer.label] += 1
        self.verdicts[answer.verdict] += 1

    def created(
        self, collection: str, name: str, answer: Answer, sizes: set[int], source: Item | None, parent: Item | None
    ) -> Item | None:
        """A create was answered; what there may be of it, or None when it was refused."""
        if answer.verdict is Verdict.REFUSED:
            return None
        made = answer.body.get(collection.removesuffix("s"))
        item_id = str(made["id"]) if answer.verdict is Verdict.ACKNOWLEDGED and isinstance(made, dict) else None
        blocks = {} if source is None else source.blocks
        content = None if blocks is None else dict(blocks)
        item = Item(collection, name, answer.verdict, item_id, set(sizes), content, parent)
        self.items.append(item)
        return item

    def extended(self, item: Item, answer: Answer, size_gib: int) -> None:
        """An extension was answered."""
        if answer.verdict is Verdict.ACKNOWLEDGED:
            item.sizes = {size_gib}
        elif answer.verdict is Verdict.UNKNOWN:
            item.sizes.add(size_gib)

    def deleted(self, item: Item, answer: Answer) -> None:
        """A deletion was answered. 404 after a deletion whose answer was lost says that this one did it."""
        if answer.verdict is Verdict.ACKNOWLEDGED or (answer.status == 404 and item.deletion is Verdict.UNKNOWN):
            item.deletion = Verdict.ACKNOWLEDGED
        elif answer.verdict is Verdict.UNKNOWN:
            item.deletion = item.deletion or Verdict.UNKNOWN
