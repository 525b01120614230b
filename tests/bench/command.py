"""The command: what to measure, how long, and where the figures go."""

from __future__ import annotations

import argparse
import os
import sys
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.bench import identity, processes
from tests.bench.client import Client
from tests.bench.copies import copies
from tests.bench.lifecycle import burst, populate, serial
from tests.bench.meter import Meter
from tests.bench.own_instance import BACKENDS, InstanceError, own_instance
from tests.bench.reads import reads
from tests.bench.report import Report
from tests.bench.target import Target

PHASES = ("serial", "burst", "reads", "copies")
_QUICK = {
    "serial_count": 10,
    "burst_count": 40,
    "population": 120,
    "seconds": 2.0,
    "copy_count": 3,
    "data_mib": 128,
}


def main(arguments: Sequence[str]) -> int:
    """Measure; print the table and write the JSON. Returns the exit code: 1 when nothing could be measured."""
    options = _parser().parse_args(arguments)
    if options.quick:
        vars(options).update(_QUICK)
    try:
        with _target(options) as target:
            report = measure(target, options)
    except (InstanceError, identity.SignInError) as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    print(report.text())
    report.write(options.json)
    print(f"\n{options.json}")
    return 0


def measure(target: Target, options: argparse.Namespace) -> Report:
    """All phases asked for, one after the other."""
    tag = f"bench-{uuid.uuid4().hex[:8]}-"
    meter = Meter(target.client, target.find)
    before = processes.memory(target.find())
    if "serial" in options.phases:
        serial(target, meter, options.serial_count, tag)
    if "burst" in options.phases:
        burst(target, meter, options.burst_count, options.clients, tag)
    if "copies" in options.phases:
        copies(target, meter, options.copy_gib, options.data_mib, options.copy_count, tag)
    if "reads" in options.phases:
        volumes = populate(target, meter, options.population, options.clients)
        if volumes:
            reads(target, meter, volumes, options.readers, options.seconds)
    requests, failed = target.client.counts()
    return Report(
        label=target.label,
        options={key: str(value) for key, value in vars(options).items() if key != "token"},
        phases=meter.results,
        memory_before=before,
        memory_after=processes.memory(target.find()),
        requests=requests,
        failed=dict(failed),
    )


@contextmanager
def _target(options: argparse.Namespace) -> Iterator[Target]:
    find = processes.of_pid_files(options.pid_dir) if options.pid_dir else processes.of_nobody
    if options.endpoint is not None:
        yield Target(options.endpoint, Client(options.endpoint, options.token), find, options.type)
    elif options.cloud is not None:
        file = os.environ.get("OS_CLIENT_CONFIG_FILE")
        known = [Path("clouds.yaml"), Path.home() / ".config/openstack/clouds.yaml"]
        cloud = identity.cloud_of([Path(file)] if file else known, options.cloud)
        endpoint, token = identity.sign_in(cloud)
        yield Target(options.cloud, Client(endpoint, token), find, options.type)
    else:
        with own_instance(options.backend) as target:
            yield target


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description="Measure a block-storage service.")
    add = parser.add_argument
    add("--backend", choices=BACKENDS, default=BACKENDS[0], help="backend of the instance that is started")
    add("--endpoint", help="measure this service instead: its URL with the project id")
    add("--token", help="X-Auth-Token for --endpoint")
    add("--cloud", help="measure this cloud of clouds.yaml instead")
    add("--type", help="volume type to ask for")
    add("--pid-dir", type=Path, help="directory of NAME.pid files of the service, for memory and CPU time")
    add("--phases", type=lambda text: text.split(","), default=list(PHASES), help=f"of {','.join(PHASES)}")
    add("--serial-count", type=int, default=50, help="volumes that one client makes one after the other")
    add("--burst-count", type=int, default=200, help="volumes that many clients make at once")
    add("--clients", type=int, default=16, help="how many clients make them")
    add("--population", type=int, default=1000, help="volumes there are while reading")
    add(
        "--readers", type=lambda text: [int(part) for part in text.split(",")], default=[8], help="clients reading: N,N"
    )
    add("--seconds", type=float, default=10.0, help="how long each read phase lasts")
    add("--copy-gib", type=int, default=100, help="size of the volume that is copied")
    add("--copy-count", type=int, default=10, help="how many copies of each kind")
    add("--data-mib", type=int, default=1024, help="data written into it where its file is in reach")
    add("--json", type=Path, default=Path("build/bench.json"), help="where the figures go")
    add("--quick", action="store_true", help="a short run that shows that all phases work")
    return parser
