"""The scheduler without its actor: the pools that were reported, the promises made on them, and decisions.

Not for several threads. Forgets everything with its process; `rebuild` and the next reports bring it back.
Errors: NoPlacementError when no pool passes, HostNameError for a name that is none (the tree: errors.py).
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Mapping, Sequence

from cluster.scheduling.decide import NoPlacementError, Placement, Refusal, decide
from cluster.scheduling.host_name import HostName, service_of
from cluster.scheduling.ledger import Entry, Ledger
from cluster.scheduling.pool_state import PoolState
from cluster.scheduling.request import Operation, PlacementRequest
from cluster.scheduling.settings import SchedulingSettings
from drivers.vocabulary import PoolReport


class Scheduler:
    """Places volumes. `clock` gives monotonic seconds. The ledger is only to be changed through the scheduler."""

    def __init__(
        self, ledger: Ledger, settings: SchedulingSettings, clock: Callable[[], float], rng: random.Random
    ) -> None:
        self._ledger = ledger
        self._settings = settings
        self._clock = clock
        self._rng = rng
        # As reported, and the same with the ledger's promises counted: kept ready, so that a decision builds nothing.
        self._reported: dict[str, PoolState] = {}
        self._counted: dict[str, PoolState] = {}
        self._pools_of: dict[str, list[str]] = {}
        self._disabled: set[str] = set()

    def report(
        self,
        host: str,
        pools: Sequence[PoolReport],
        *,
        availability_zone: str,
        backend_name: str | None = None,
        node_labels: Mapping[str, str] | None = None,
        service_up: bool = True,
        service_enabled: bool | None = None,
        reported_at: str | None = None,
    ) -> None:
        """Take over what the service `host` (`host@backend`) measured; pools it no longer names are gone.

        `service_enabled` None keeps what was last said of the service (a service is enabled at first). `backend_name`
        (volume_backend_name) is the backend part of the name unless given. Raises HostNameError.
        """
        name = HostName.parse(host)
        if service_enabled is not None:
            self._note(name.service, service_enabled)
        states = [
            PoolState.of_report(
                name.service,
                pool,
                backend_name=backend_name or name.backend or name.host,
                availability_zone=availability_zone,
                node_labels=node_labels,
                service_up=service_up,
                service_enabled=name.service not in self._disabled,
                reported_at=reported_at,
            )
            for pool in pools
        ]
        self.forget(name.service)
        self._pools_of[name.service] = list(dict.fromkeys(state.host for state in states))
        for state in states:
            self._ledger.reported(state.host)
            self._reported[state.host] = state
            self._recount(state.host)

    def set_service(self, host: str, *, up: bool, enabled: bool) -> None:
        """Say that the service `host` is up or down, enabled or disabled, between its reports or before the first."""
        self._note(host, enabled)
        for pool in self._pools_of.get(host, ()):
            state = self._reported[pool]
            if (state.service_up, state.service_enabled) != (up, enabled):
                self._reported[pool] = state.with_service(up=up, enabled=enabled)
                self._recount(pool)

    def forget(self, host: str) -> None:
        """Drop the pools of the service `host`; promises on them stay, and count again if it comes back."""
        for pool in self._pools_of.pop(host, ()):
            del self._reported[pool], self._counted[pool]

    def place(self, request: PlacementRequest) -> Placement:
        """Choose a pool and promise the room. Raises NoPlacementError.

        Asked again for a volume that has its promise, the answer is the same as long as that pool is reported; a
        promise on an excluded, vanished or wrong pool is given back before a new choice.
        """
        held = self._ledger.entry(request.volume_id)
        if held is not None and self._answers(held, request):
            self._promise(request, held.host)
            return Placement(held.host, repeated=True)
        if request.operation is Operation.EXTEND:
            # The records may show the size aimed at before its room was looked for: only what it has counts.
            self.resize(request.volume_id, request.current_size_gib)
        else:
            self.release(request.volume_id)
        decision = decide(self._counted.values(), request, self._settings, self._rng)
        if isinstance(decision, Refusal):
            raise NoPlacementError(decision)
        self._promise(request, decision.host)
        return decision

    def release(self, volume_id: str) -> None:
        """Give back what a volume was promised. Safe to repeat."""
        held = self._ledger.entry(volume_id)
        if held is not None:
            self._ledger.release(volume_id)
            self._recount(held.host)

    def resize(self, volume_id: str, size_gib: int) -> None:
        """Set a volume's promise to `size_gib` GiB without looking for room (an adopted size, an undone extend)."""
        held = self._ledger.entry(volume_id)
        if held is not None:
            self._ledger.resize(volume_id, size_gib, self._clock())
            self._recount(held.host)

    def rebuild(self, rows: Iterable[tuple[str, str, int]]) -> None:
        """Take over the records: (volume id, pool, GiB) of all volumes that are anywhere. See Ledger.rebuild."""
        self._ledger.rebuild(rows, self._clock(), self._settings.reservation_grace_seconds)
        for host in self._reported:
            self._recount(host)

    def pools_view(self) -> tuple[PoolState, ...]:
        """All pools with their promises counted, sorted by name: what get_pools shows."""
        return tuple(self._counted[host] for host in sorted(self._counted))

    def _answers(self, held: Entry, request: PlacementRequest) -> bool:
        service = service_of(held.host)
        if held.host not in self._counted or request.required_host not in (None, held.host, service):
            return False
        if request.operation is Operation.EXTEND:
            return held.since is not None and held.gib == request.size_gib
        return held.host not in request.exclude_hosts and service not in request.exclude_hosts

    def _note(self, service: str, enabled: bool) -> None:
        if enabled:
            self._disabled.discard(service)
        else:
            self._disabled.add(service)

    def _promise(self, request: PlacementRequest, host: str) -> None:
        held = self._ledger.entry(request.volume_id)
        self._ledger.reserve(request.volume_id, host, request.size_gib, self._clock())
        for touched in {host, held.host if held is not None else host}:
            self._recount(touched)

    def _recount(self, host: str) -> None:
        state = self._reported.get(host)
        if state is not None:
            usage = self._ledger.usage(host)
            self._counted[host] = state.with_usage(
                allocated_gib=usage.allocated_gib,
                unreported_gib=usage.unreported_gib,
                volume_count=usage.volume_count,
            )
