"""Network namespaces that a test makes, with real interfaces in them, and work done inside. Needs root."""

from __future__ import annotations

import contextlib
import os
import subprocess
import threading
import uuid
from collections.abc import Callable, Iterator
from typing import TypeVar

from pyroute2 import netns

T = TypeVar("T")


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True)


class Space:
    """A namespace, its loopback up."""

    def __init__(self) -> None:
        self.name = f"pumice-{uuid.uuid4().hex[:12]}"
        # By the program: pyroute2 would fork this process, of which libraries that tests load warn.
        _ip("netns", "add", self.name)
        self.ip("link", "set", "lo", "up")

    def ip(self, *arguments: str) -> None:
        _ip("-n", self.name, *arguments)

    def do(self, work: Callable[[], T]) -> T:
        """What `work` returns or raises, done in a thread that is there; so are the processes that it starts."""
        outcome: list[T] = []
        failure: list[BaseException] = []

        def run() -> None:
            try:
                netns.setns(self.name)
                outcome.append(work())
            except BaseException as error:
                failure.append(error)

        thread = threading.Thread(target=run)
        thread.start()
        thread.join()
        if failure:
            raise failure[0]
        return outcome[0]

    def remove(self) -> None:
        _ip("netns", "delete", self.name)


@contextlib.contextmanager
def space() -> Iterator[Space]:
    assert os.geteuid() == 0, "these tests make network namespaces: run them as root"
    one = Space()
    try:
        yield one
    finally:
        one.remove()


def cable(first: Space, second: Space, number: int) -> None:
    """A pair of interfaces `c<number>`: 10.99.<number>.1 and fd99:<number>::1 in the first, .2 and ::2 beyond."""
    name = f"c{number}"
    first.ip("link", "add", name, "type", "veth", "peer", "name", name, "netns", second.name)
    for place, one in enumerate((first, second), start=1):
        one.ip("addr", "add", f"10.99.{number}.{place}/24", "dev", name)
        one.ip("addr", "add", f"fd99:{number}::{place}/64", "dev", name, "nodad")
        one.ip("link", "set", name, "up")
