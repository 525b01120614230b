"""What a node actor has promised: one small file for each claim, written before anything is done for it.

A claim is a mount held for one process of the node. Its file is what a restarted node actor knows.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from actors import processes
from cluster.settings_file import write_private


@dataclass(frozen=True)
class Owner:
    """The process a claim is for, by number and birth."""

    pid: int
    started_at: str

    def lives(self) -> bool:
        """Whether it still runs."""
        return processes.is_alive(self.pid) and processes.started_at(self.pid) == self.started_at


@dataclass(frozen=True)
class Claim:
    """One mount. `id` is also the attachment's `instance_uuid`, by which it is found in every case. `boot` is the boot
    of the machine in which it was made: no process that it was for outlives that. `unwanted`: its owner has ended it,
    or never got it, and what is left of it is to go while the owner lives."""

    id: str
    volume_id: str
    mode: str
    owner: Owner
    boot: str
    unwanted: bool = False


class ClaimFiles:
    """The claims of one node, in `directory`."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def write(self, claim: Claim) -> None:
        """Record the claim; it is on disk when this returns."""
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_private(self._file(claim.id), json.dumps(asdict(claim)) + "\n")

    def remove(self, claim_id: str) -> None:
        """Forget the claim."""
        self._file(claim_id).unlink(missing_ok=True)

    def all(self) -> list[Claim]:
        """Every claim that is recorded whole."""
        found = []
        for path in sorted(self._directory.glob("*.json")):
            values = json.loads(path.read_text(encoding="utf-8"))
            found.append(Claim(**{**values, "owner": Owner(**values["owner"])}))
        return found

    def _file(self, claim_id: str) -> Path:
        return self._directory / f"{claim_id}.json"


def node_directory(state_dir: Path) -> Path:
    """Where the node of a state directory keeps its claims and mounts: as the kernel tells it of mounts and files of
    loop devices, without symbolic links."""
    return (state_dir / "node").resolve()
