"""The command `nft`, given JSON: all commands of one call happen, or none (libnftables' schema is libnftables-json(5)).

Why the command and not pyroute2's classes: docs/decisions/0009-the-allow-list-of-exports.md. Blocking code.

    NftError    it did not do it; the message says why, for operators
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from typing import Any, Final

PROGRAM: Final = "nft"
PACKAGE: Final = "nftables"
FAMILY: Final = "inet"
_SECONDS: Final = 30.0


class NftError(Exception):
    """The kernel's packet filter was not changed."""


def run(commands: Sequence[dict[str, Any]]) -> None:
    """Do them all, in one transaction. Raises NftError; nothing was done then."""
    _nft("-f", "-", text=json.dumps({"nftables": list(commands)}))


def tables(prefix: str) -> list[str]:
    """The tables whose names begin so. Raises NftError."""
    found = json.loads(_nft("list", "tables") or '{"nftables": []}')["nftables"]
    named = [entry["table"] for entry in found if "table" in entry]
    return sorted(one["name"] for one in named if one["family"] == FAMILY and one["name"].startswith(prefix))


def removal(table: str) -> list[dict[str, Any]]:
    """The commands after which there is no such table, whether there was one or not."""
    return [{"add": {"table": _table(table)}}, {"delete": {"table": _table(table)}}]


def left(prefix: str) -> list[str]:
    """The tables whose names begin so; none where it cannot be looked, for there nobody made any."""
    try:
        return tables(prefix)
    except NftError:
        return []


def clear(prefix: str) -> list[str]:
    """Remove every table whose name begins so; return what could not be done."""
    if not (names := left(prefix)):
        return []
    try:
        run([command for name in names for command in removal(name)])
    except NftError as error:
        return [f"the packet filter's tables {', '.join(names)} are still there: {error}"]
    return []


def _table(name: str) -> dict[str, str]:
    return {"family": FAMILY, "name": name}


def _nft(*arguments: str, text: str | None = None) -> str:
    try:
        done = subprocess.run(
            [PROGRAM, "-j", *arguments],
            input=text,
            capture_output=True,
            text=True,
            timeout=_SECONDS,
            check=False,
        )
    except FileNotFoundError as error:
        raise NftError(f"{PROGRAM} is not on this node; install it (Debian: {PACKAGE})") from error
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NftError(f"{PROGRAM} does not run: {error}") from error
    if done.returncode != 0:
        lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
        why = lines[0] if lines else f"it ended with {done.returncode}"
        hint = " (it needs root, or CAP_NET_ADMIN)" if "not permitted" in why else ""
        raise NftError(f"{PROGRAM} refused: {why}{hint}")
    return done.stdout
