"""A guest with a kernel of its own: user-mode Linux of Debian, an ordinary process, for what this kernel may lack.

Its root is a copy-on-write view of this machine's files, so the checkout and its virtual environment are there; what it
writes is gone when it ends. It has a loopback network and nothing else.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final

CHECKOUT: Final = Path(__file__).parents[2]
_PACKAGES: Final = Path(__file__).with_name("guest_packages.txt")
_UNPACKED: Final = CHECKOUT / "build" / "kernel"
_MEMORY_MIB: Final = 1024


@dataclass(frozen=True, slots=True)
class Ended:
    """What became of a command: its exit status (None: the guest did not come so far) and what it said."""

    status: int | None
    said: str


def run(command: str, timeout_seconds: float) -> Ended:
    """Boot a guest, run the shell command as root in it, and power it off. Needs root, and the packages' files."""
    unpacked = _ensure_unpacked()
    share = Path(tempfile.mkdtemp(prefix="guest-", dir=_UNPACKED.parent))  # the guest has a /tmp of its own
    try:
        (share / "command").write_text(command, encoding="utf-8")
        console = _boot(unpacked, share, timeout_seconds)
        output, status = share / "output", share / "status"
        if not status.exists():
            said = output.read_text(errors="replace") if output.exists() else ""
            return Ended(None, f"{said}\nthe guest's console:\n{console[-4000:]}")
        return Ended(int(status.read_text()), output.read_text(errors="replace"))
    finally:
        shutil.rmtree(share)


def _boot(unpacked: Path, share: Path, timeout_seconds: float) -> str:
    """What its console said when it has ended."""
    words = [
        *(f"mem={_MEMORY_MIB}M", "rootfstype=hostfs", "rootflags=/", "ro", "panic=-1", "quiet"),
        *(f"init={Path(__file__).with_name('init')}", f"uml_dir={share}", "umid=guest"),
        *("con=null", "ssl=null", "con0=null,fd:1"),
        *(f"pumice.share={share}", f"pumice.unpacked={unpacked}"),
    ]
    guest = subprocess.Popen(
        [str(unpacked / "usr/bin/linux.uml"), *words],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env={**os.environ, "TMPDIR": "/dev/shm"},  # its memory is a file there
        start_new_session=True,
    )
    try:
        said, _ = guest.communicate(timeout=timeout_seconds)
    except subprocess.TimeoutExpired:
        os.killpg(guest.pid, signal.SIGKILL)  # it consists of several processes
        said, _ = guest.communicate()
    return said.decode(errors="replace")


def _ensure_unpacked() -> Path:
    """The files of the guest's packages; they are fetched when they are not there."""
    done = _UNPACKED / "unpacked.txt"
    wanted = _PACKAGES.read_text(encoding="utf-8")
    if done.exists() and done.read_text(encoding="utf-8") == wanted:
        return _UNPACKED
    shutil.rmtree(_UNPACKED, ignore_errors=True)
    archives = _UNPACKED / "archives"
    archives.mkdir(parents=True)
    names = [line for line in wanted.splitlines() if line and not line.startswith("#")]
    subprocess.run(["apt-get", "download", "-qq", *names], cwd=archives, check=True)
    for archive in archives.glob("*.deb"):
        subprocess.run(["dpkg", "-x", str(archive), str(_UNPACKED)], check=True)
    shutil.rmtree(archives)
    done.write_text(wanted, encoding="utf-8")
    return _UNPACKED
