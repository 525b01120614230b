"""`pumice join`: make this machine a storage node of the cluster whose head runs elsewhere, and stay with it."""

from __future__ import annotations

import os
import socket
import stat
from pathlib import Path

import click

from actors import node_environment, processes
from actors.instance import InstanceError, ensure_instance, ensure_private, mark_of
from actors.joined_node import JoinedNode
from cluster import logs
from cluster.settings import Settings, SettingsError, is_loopback
from serve_app.command import node_file
from serve_app.command.node_file import JoinedAs
from serve_app.command.node_supervisor import NodeSupervisor
from serve_app.command.options import STATE_DIR, fail, settings_of, with_options
from serve_app.command.part import StartError
from serve_app.command.release import end_control
from serve_app.command.run_file import AlreadyRunningError, Run, RunFile
from serve_app.command.state_dir import ensure_state_dir, is_head


@click.command()
@with_options(STATE_DIR)
@click.option("--head", required=True, metavar="ADDRESS:PORT", help="Where the head is: ray_address of its `status`.")
@click.option(
    "--token-file",
    type=click.Path(dir_okay=False, path_type=Path),
    help="A copy of the head's secrets/ray.token (default: secrets/ray.token in the state directory).",
)
@click.option("--host-name", help="Name in host@backend#pool (default: the machine's at the first join).")
@click.option("--labels", metavar="KEY=VALUE,…", help="Node labels, for backends' label_selector and extra specs.")
@click.option("--availability-zone", metavar="ZONE", help="Zone of the services here (default: the head's).")
@click.option("--address", metavar="IP", help="How others reach this machine (default: its way to the head).")
@click.option("--storage-interface", metavar="NAME", help="Interface whose address exports use here.")
@click.option("--storage-subnet", metavar="SUBNET", help="Or: the subnet in which that address is, as 10.2.0.0/24.")
@click.option("--storage-label", metavar="KEY", help="Or: the label of this node that names the interface.")
def join(
    state_dir: Path | None,
    head: str,
    token_file: Path | None,
    host_name: str | None,
    labels: str | None,
    availability_zone: str | None,
    address: str | None,
    storage_interface: str | None,
    storage_subnet: str | None,
    storage_label: str | None,
) -> None:
    """Join a cluster as a storage node. Leaves it, and stops what it started, on Ctrl-C or SIGTERM."""
    try:
        settings = settings_of(
            state_dir=state_dir,
            host_name=host_name,
            availability_zone=availability_zone,
            labels=_labels(labels) if labels else None,
            storage_network=_given(interface=storage_interface, subnet=storage_subnet, label=storage_label),
        )
        settings = _remembered(settings)
        _, port = _endpoint(head)
        address = _own_address(head, address)
        ensure_state_dir(settings.state_dir)
        ensure_private(settings.state_dir / "logs")
        token = _token(settings.state_dir, token_file)
    except SettingsError as error:
        fail(str(error), code=2)
    except InstanceError as error:
        fail(str(error))
    except OSError as error:
        fail(f"{error.filename or settings.state_dir}: {error.strerror}")
    head = f"{head.rpartition(':')[0]}:{port}"
    try:
        supervisor = _prepared(settings, head, address, token)
        troubles = supervisor.run()
    except (InstanceError, AlreadyRunningError) as error:
        fail(str(error))
    except StartError as error:
        fail(f"{error}\nNothing of it is left running. More is in {settings.state_dir / 'logs'}.")
    except OSError as error:
        fail(f"{error.filename or settings.state_dir}: {error.strerror}")
    if troubles:
        fail("\n".join(troubles))
    click.echo("stopped")


def _prepared(settings: Settings, head: str, address: str, token: Path) -> NodeSupervisor:
    """Lock, ports and directories are ours, and what an earlier run has left is gone."""
    state_dir = settings.state_dir
    run = RunFile(state_dir)
    run.take()
    if processes.of_instance(mark_of(state_dir)):
        click.echo("ending what is left of an earlier run")
        if troubles := end_control(state_dir):
            raise InstanceError("; ".join(troubles))
    instance = ensure_instance(state_dir)
    logs.configure(state_dir / "logs", "join")
    node_file.write(state_dir, JoinedAs(settings.host_name, head))
    run.write(Run(os.getpid(), processes.started_at(os.getpid()), "", head, None))
    zone = settings.availability_zone if "availability_zone" in settings.model_fields_set else None
    node = JoinedNode(
        instance,
        head=head,
        address=address,
        token=token,
        labels=node_environment.labels(settings.host_name, zone, settings.labels),
        object_store_bytes=settings.object_store_bytes,
        network=settings.storage_network,
    )
    return NodeSupervisor(state_dir, node, run, head, settings.host_name, click.echo)


def _given(**options: str | None) -> dict[str, str] | None:
    return {name: value for name, value in options.items() if value is not None} or None


def _labels(text: str) -> dict[str, str]:
    found = {}
    for item in text.split(","):
        key, equals, value = item.strip().partition("=")
        if not equals:
            raise SettingsError(f"--labels: {item.strip()!r} is not KEY=VALUE")
        found[key] = value
    return found


def _remembered(settings: Settings) -> Settings:
    """The settings with the host name under which this directory's volumes are recorded."""
    if is_head(settings.state_dir):
        raise SettingsError(f"state_dir: {settings.state_dir} is the head's of an instance; give another --state-dir")
    before = node_file.read(settings.state_dir)
    if before is None or before.host_name == settings.host_name:
        return settings
    if "host_name" in settings.model_fields_set:
        raise SettingsError(
            f"host_name: {settings.state_dir} was begun as {before.host_name!r}, and its volumes are recorded under "
            f"that name, so it cannot become {settings.host_name!r}; leave --host-name out, or give another --state-dir"
        )
    return settings.model_copy(update={"host_name": before.host_name})


def _endpoint(head: str) -> tuple[str, int]:
    """The address and port that --head names. Raises SettingsError."""
    host, _, port = head.rpartition(":")
    if not host or not port.isdigit() or not 1 <= int(port) <= 65535:
        raise SettingsError(f"--head: {head!r} is not ADDRESS:PORT")
    try:
        found = socket.getaddrinfo(host, int(port), socket.AF_INET, socket.SOCK_STREAM)[0][4][0]
    except OSError as error:
        raise SettingsError(f"--head: {host!r} has no IPv4 address ({error.strerror})") from error
    if is_loopback(str(found)):
        raise SettingsError(
            f"--head: {host} is this machine itself; set cluster_address on the head, and name that address here"
        )
    return str(found), int(port)


def _own_address(head: str, address: str | None) -> str:
    """How the others reach this machine. Raises SettingsError."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            if address is not None:
                probe.bind((address, 0))
                return address
            probe.connect(_endpoint(head))  # sends nothing; the kernel chooses the way
            return str(probe.getsockname()[0])
        except OSError as error:
            what = f"--address: {address} is no address of this machine" if address else f"--head: no way to {head}"
            raise SettingsError(f"{what} ({error.strerror})") from error


def _token(state_dir: Path, given: Path | None) -> Path:
    """The file with the cluster's secret, which nobody else can read. Raises SettingsError, OSError."""
    path = (given or node_environment.token_path(state_dir)).absolute()
    if not path.is_file():
        raise SettingsError(
            f"--token-file: {path} is not there; copy secrets/ray.token from the head's state directory to it"
        )
    if stat.S_IMODE(path.stat().st_mode) & 0o077:
        raise SettingsError(f"--token-file: others may read {path}, and whoever has it owns the cluster; chmod 600 it")
    if not path.read_text(encoding="utf-8", errors="replace").strip():
        raise SettingsError(f"--token-file: {path} is empty")
    return path
