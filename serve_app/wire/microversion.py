"""Microversion negotiation: `OpenStack-API-Version: volume 3.N`."""

from __future__ import annotations

import re
from functools import lru_cache

from serve_app.wire.faults import BadRequest, NotAcceptable, NotFound

MINIMUM = 0
MAXIMUM = 71
HEADER = "OpenStack-API-Version"
_NUMBER = re.compile(r"([1-9][0-9]*)\.([1-9][0-9]*|0)")


@lru_cache(maxsize=512)
def negotiate(header: str | None) -> int:
    """The minor number that `header` asks for; without a header 3.0. The header may name several services.

    Raises BadRequest for what is not a version, NotAcceptable out of range, NotFound when volume is not named.
    """
    if header is None:
        return MINIMUM
    words = next((part.split() for part in header.split(",") if "volume" in part), None)
    if words is None:
        raise NotFound("API version None is not supported on this method.")
    version = words[1] if len(words) == 2 and words[0] == "volume" else header.strip()
    if version == "latest":
        return MAXIMUM
    match = _NUMBER.fullmatch(version)
    if match is None:
        raise BadRequest(
            f"API Version String {version[:64]} is of invalid format. Must be of format MajorNum.MinorNum."
        )
    major, minor = match.groups()
    if major != "3" or len(minor) > 4 or int(minor) > MAXIMUM:
        raise NotAcceptable(
            f"Version {version[:64]} is not supported by the API. Minimum is 3.{MINIMUM} and maximum is 3.{MAXIMUM}."
        )
    return int(minor)


def unsupported(minor: int) -> NotFound:
    """The fault for a method that the negotiated version does not have."""
    return NotFound(f"API version 3.{minor} is not supported on this method.")
