"""What was asked of attachments and committed, for the reckoning at the end."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Asked:
    """A request about an attachment that was committed. `what` is reserve, open, attach, complete or end; `operations`
    see to it; `again`: others were in the way, and it is to be asked again. `shows`: what the attachment said then."""

    attachment_id: str
    what: str
    operations: tuple[str, ...] = ()
    again: bool = False
    shows: str | None = None


@dataclass
class Claims:
    """All that was asked of attachments, in order. `attachments` are their ids, oldest first, and `volume_of` their
    volumes. `marked` are the volumes that a consumer made say `attaching` or `detaching` for no attachment."""

    asked: list[Asked] = field(default_factory=list)
    attachments: list[str] = field(default_factory=list)
    volume_of: dict[str, str] = field(default_factory=dict)
    marked: dict[str, str] = field(default_factory=dict)

    def add(self, attachment_id: str, volume_id: str) -> None:
        """A new attachment."""
        self.attachments.append(attachment_id)
        self.volume_of[attachment_id] = volume_id
