"""Who of an instance lives and does nothing: stopped processes, event loops that stand still, ports that do not answer.

Nothing else would notice: Ray and Serve look whether a process is there, and callers wait for its answer. Whoever is
hung is killed (by `pumice up`), and from then on is a dead one like any other. What is stopped (SIGSTOP) is hung, and
beyond that there are three ways to show life:

    beat     actors touch a file of their own every second from their event loop (`actors.liveness.beat`)
    greeting GCS and raylet speak HTTP/2, where the server greets whoever connects and greets first
    answer   the ingress has to answer with anything, the API with anything but 5xx

Times are of a monotonic clock. Who looks may be held up itself, by a busy machine or by the disk on which the beats
are: after a gap between two looks, and while that disk takes no file at once, all patience begins anew. No Ray here.
"""

from __future__ import annotations

import contextlib
import http.client
import signal
import socket
import time
from collections import Counter
from collections.abc import Callable, Collection, Hashable, Iterator

from actors import processes
from actors.instance import Instance
from actors.liveness import beats, try_beat
from actors.node_environment import GCS, NODE_MANAGER
from actors.processes import Process

LOOK_SECONDS = 2.0
HUNG_SECONDS = 15.0  # the default of the setting timing.hung
# After eight seconds the GCS takes a silent raylet for dead anyway, and a GCS is back in two.
DAEMON_HUNG_SECONDS = 8.0
# For an actor that has not beaten yet: it is being made.
BORN_SECONDS = 60.0
_GAP_SECONDS = 5.0
_PROBE_SECONDS = 1.5
_ANSWER_SECONDS = 5.0
_QUICK_SECONDS = 1.0
# A loaded API answers late and a Serve that comes up says 503: that is no reason to begin all over.
_API_TIMES = 4
_MOST_PATIENCE = 3  # doublings
_ACTORS = ("ray::ConductorActor", "ray::SchedulerActor", "ray::VolumeActor")
_DAEMONS = {"gcs_server": GCS, "raylet": NODE_MANAGER}
# Who stands between a client and the application: first the ingress, and if that was not it, all of Serve.
_INGRESS = ("haproxy", "ray::HAProxyManager", "ray::ProxyActor")
_SERVE = (*_INGRESS, "ray::ServeController", "ray::ServeReplica:")
# The connection preface and an empty SETTINGS frame (RFC 9113, 3.4).
_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes((0, 0, 0, 4, 0, 0, 0, 0, 0))


class Patience:
    """Since when each of several has shown no sign of life. `clock` in seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._seen: dict[Hashable, tuple[object, float]] = {}

    def silent(self, key: Hashable, sign: object) -> float:
        """Seconds since `key` last showed another `sign` than before (or was first asked about)."""
        old, since = self._seen.get(key, (None, 0.0))
        now = self._clock()
        if key not in self._seen or old != sign:
            self._seen[key] = sign, now
            return 0.0
        return now - since

    def keep(self, pids: Collection[int]) -> None:
        """Know nothing of processes that are gone: their numbers are given to others."""
        for key in [*self._seen]:
            if isinstance(key, tuple) and key[1] not in pids:
                del self._seen[key]

    def forget(self) -> None:
        """Begin anew."""
        self._seen.clear()


class Hangs:
    """Of one node of an instance, whose Ray has come up. `address` is where GCS and raylet listen, `api_port` is the
    API's port on loopback where there is one, `hung_seconds` is how long a silent actor or a stopped process is waited
    for."""

    def __init__(
        self,
        instance: Instance,
        address: str,
        api_port: int | None = None,
        clock: Callable[[], float] = time.monotonic,
        hung_seconds: float = HUNG_SECONDS,
    ) -> None:
        self._instance, self._address, self._api_port, self._clock = instance, address, api_port, clock
        self._hung = hung_seconds
        self._patience = Patience(clock)
        self._looked_at = self._done_at = clock()
        self._answers = {"ingress": 0, "api": 0}
        self._strikes = {"ingress": 0, "api": 0}
        self._never_born: Counter[str] = Counter()

    def end(self, *, serving: bool) -> list[Process]:
        """Kill those that are hung; return them. Nothing between two looks. `serving`: the API has to answer."""
        found = self.find(serving=serving)
        for process in found:
            processes.send(process, self._instance.mark, signal.SIGKILL)
        return found

    def find(self, *, serving: bool) -> list[Process]:
        """Those that are hung; empty between two looks."""
        now = self._clock()
        if now - self._looked_at < LOOK_SECONDS:
            return []
        if now - self._done_at > _GAP_SECONDS or not self._beats_can_be_written():
            self._patience.forget()
        self._looked_at = now
        there = processes.of_instance(self._instance.mark)
        self._patience.keep({process.pid for process in there})
        found = [
            *self._stopped(there),
            *self._daemons(there),
            *self._actors(there),
            *(self._serve(there, self._api_port) if serving and self._api_port is not None else ()),
        ]
        self._done_at = self._clock()
        return found

    def _beats_can_be_written(self) -> bool:
        began = time.monotonic()
        return try_beat(self._instance.state_dir) and time.monotonic() - began < _QUICK_SECONDS

    def _stopped(self, there: list[Process]) -> Iterator[Process]:
        for process in there:
            sign = None if processes.is_stopped(process.pid) else self._clock()
            if self._patience.silent(("stopped", process.pid), sign) > self._hung:
                yield process

    def _daemons(self, there: list[Process]) -> Iterator[Process]:
        for process in there:
            if process.name in _DAEMONS:
                greets = greets_http2(self._address, self._instance.port(_DAEMONS[process.name]))
                if (
                    self._patience.silent(("daemon", process.pid), self._clock() if greets else None)
                    > DAEMON_HUNG_SECONDS
                ):
                    yield process

    def _actors(self, there: list[Process]) -> Iterator[Process]:
        last = beats(self._instance.state_dir, {process.pid for process in there})
        for process in there:
            if process.name.startswith(_ACTORS):
                beat = last.get(process.pid)
                if beat is not None:
                    del self._never_born[process.name]
                # Each time longer for one that is being made: it may just need that long here.
                born = BORN_SECONDS * 2 ** min(self._never_born[process.name], _MOST_PATIENCE)
                if self._patience.silent(("actor", process.pid), beat) > (born if beat is None else self._hung):
                    self._never_born[process.name] += beat is None
                    yield process

    def _serve(self, there: list[Process], port: int) -> Iterator[Process]:
        status = http_status("127.0.0.1", port)
        for what, lives, names, times in (
            ("ingress", status is not None, _INGRESS, 1),
            ("api", status is not None and status < 500, _SERVE, _API_TIMES),
        ):
            if lives:
                self._answers[what], self._strikes[what] = self._answers[what] + 1, 0
            # Longer after each strike: on a busy machine Serve takes its time to come up, and must not be hindered.
            allowed = self._hung * times * 2 ** min(self._strikes[what], _MOST_PATIENCE)
            if self._patience.silent(what, (self._answers[what], self._strikes[what])) > allowed:
                self._strikes[what] += 1
                yield from (process for process in there if process.name.startswith(names))


def greets_http2(host: str, port: int) -> bool:
    """Whether a server of HTTP/2 (gRPC) answers there. The kernel takes connections for a stopped process, too."""
    with contextlib.suppress(OSError), socket.create_connection((host, port), _PROBE_SECONDS) as connection:
        connection.sendall(_PREFACE)
        return len(connection.recv(9)) > 0
    return False


def http_status(host: str, port: int) -> int | None:
    """The status with which `GET /` is answered; None when it is not."""
    connection = http.client.HTTPConnection(host, port, timeout=_ANSWER_SECONDS)
    try:
        connection.request("GET", "/")
        return connection.getresponse().status
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()
