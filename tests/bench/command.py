"""The command: what to measure, how long, and where the figures go."""

from __future__ import annotations

import argparse
import os
import sys
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from tests.bench import identity, processes
from tests.bench.client import Client
from tests.bench.copies import copies
from tests.bench.exports import exports
from tests.bench.lifecycle import burst, populate, serial
from tests.bench.meter import Meter
from tests.bench.own_instance import BACKENDS, InstanceError, own_instance
from tests.bench.reads import reads
from tests.bench.report import Report
from tests.bench.target import Target
from tests.bench.transfer import TransferError

EXPORTS = "exports"
PHASES = ("serial", "burst", "reads", "copies", EXPORTS)
_QUICK = {
    "serial_count": 10,
    "burst_count": 40,
    "population": 120,
    "seconds": 2.0,
    "copy_count": 3,
    "data_mib": 128,
    "attach_count": 10,
    "transfer_rounds": 1,
    "transfer_seconds": 0.5,
}


def main(arguments: Sequence[str]) -> int:
    """Measure; print the table and write the JSON. Returns the exit code: 1 when nothing could be measured."""
    options = _parser().parse_args(arguments)
    if options.quick:
        vars(options).update(_QUICK)
    another = options.endpoint is not None or options.cloud is not None
    try:
        if set(options.phases) - {EXPORTS}:
            with _target(options) as target:
                _tell(measure(target, options), options.json)
        if EXPORTS in options.phases and another:
            print("bench: exports are measured of an instance of its own only: volumes' files must be within reach")
        elif EXPORTS in options.phases:
            # Of an instance of its own, for it has a backend more.
            with own_instance(BACKENDS[0], exports=True) as target:
                report = measure_exports(target, options)
            _tell(report, options.json.with_stem(f"{options.json.stem}-{EXPORTS}"))
    except (InstanceError, identity.SignInError, TransferError) as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    return 0


def _tell(report: Report, path: Path) -> None:
    print(report.text())
    report.write(path)
    print(f"\n{path}\n")


def measure_exports(target: Target, options: argparse.Namespace) -> Report:
    """Attachments, and bytes through each export. Raises TransferError."""
    meter = Meter(target.client, target.find)
    before = processes.memory(target.find())
    tag = f"bench-{uuid.uuid4().hex[:8]}-"
    found = exports(target, meter, tag, options.attach_count, options.transfer_rounds, options.transfer_seconds)
    return replace(_report(target, options, meter, before), transfers=found)


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
    return _report(target, options, meter, before)


def _report(target: Target, options: argparse.Namespace, meter: Meter, before: dict[str, processes.Memory]) -> Report:
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
    add("--attach-count", type=int, default=50, help="attachments by each export")
    add("--transfer-rounds", type=int, default=5, help="how often each export is measured, in turn with the plain file")
    add("--transfer-seconds", type=float, default=2.0, help="how long each measurement of bytes lasts")
    add("--json", type=Path, default=Path("build/bench.json"), help="where the figures go")
    add("--quick", action="store_true", help="a short run that shows that all phases work")
    return parser
