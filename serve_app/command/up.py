"""`pumice up`: start an instance and stay with it, or leave it running in the background."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import click

from actors import processes
from actors.head_environment import LOOPBACK, choose_network, jobs_url, ray_address
from actors.instance import Instance, InstanceError, ensure_instance, ensure_private, mark_of
from actors.node_environment import token_path
from cluster import logs
from cluster.settings import Settings, SettingsError
from cluster.settings_file import write_effective
from serve_app.command import node_file
from serve_app.command.backends import check_backends
from serve_app.command.options import CONFIG, STATE_DIR, fail, settings_of, with_options
from serve_app.command.output import begin_anew
from serve_app.command.part import StartError
from serve_app.command.release import end_control
from serve_app.command.run_file import AlreadyRunningError, Run, RunFile
from serve_app.command.state_dir import ensure_state_dir, with_remembered_host
from serve_app.command.supervisor import Supervisor

_DETACH_SECONDS = 600


@click.command()
@with_options(CONFIG, STATE_DIR)
@click.option("--port", type=click.IntRange(1, 65535), help="TCP port of the API (default: 8776).")
@click.option("--detach", is_flag=True, help="Return when it is ready; it goes on in the background.")
@click.option("--background", is_flag=True, hidden=True)
def up(config: Path | None, state_dir: Path | None, port: int | None, detach: bool, background: bool) -> None:
    """Start an instance: Ray, the control actors, the API. Stops everything again on Ctrl-C or SIGTERM."""
    settings = _checked(settings_of(config, state_dir=state_dir, port=port))
    if detach:
        _detach(settings, config)
        return
    log = settings.state_dir / "logs" / "up.log" if background else None
    run = RunFile(settings.state_dir)
    try:
        run.take()
        instance = _make_room(settings)
        logs.configure(settings.state_dir / "logs", "up")
        pid, address = os.getpid(), ray_address(settings, instance)
        jobs = jobs_url(settings, instance)
        run.write(Run(pid, processes.started_at(pid), settings.endpoint, address, str(log) if log else None, jobs=jobs))
    except (InstanceError, AlreadyRunningError) as error:
        fail(str(error))
    except OSError as error:
        fail(f"{error.filename or settings.state_dir}: {error.strerror}")
    try:
        troubles = Supervisor(settings, instance, run, click.echo).run(lambda: click.echo(_hints(settings, jobs)))
    except StartError as error:
        fail(f"{error}\nNothing of it is left running. More is in {settings.state_dir / 'logs'}.")
    if troubles:
        fail("\n".join(troubles))
    click.echo("stopped")


def _checked(settings: Settings) -> Settings:
    """The settings with what the state directory remembers; that directory is there. Ends the command with code 2 when
    they cannot be run."""
    try:
        if node := node_file.read(settings.state_dir):
            raise SettingsError(
                f"state_dir: {settings.state_dir} is that of {node.host_name}, a node of the cluster at {node.head}; "
                "`pumice join` starts it; give another --state-dir for a head"
            )
        settings = with_remembered_host(settings)
        check_backends(settings)
        choose_network(settings)
        ensure_state_dir(settings.state_dir)
        ensure_private(settings.state_dir / "logs")
    except SettingsError as error:
        fail(str(error), code=2)
    except InstanceError as error:
        fail(str(error))
    except OSError as error:
        fail(f"{error.filename or settings.state_dir}: {error.strerror}")
    return settings


def _make_room(settings: Settings) -> Instance:
    """Directories, ports, settings file; what an instance that was killed has left behind goes first."""
    if processes.of_instance(mark_of(settings.state_dir)):
        click.echo("ending what is left of an earlier run")
        if troubles := end_control(settings.state_dir):
            raise InstanceError("; ".join(troubles))
    _check_ports(settings)
    write_effective(settings)
    try:
        choose_network(settings).write(settings.state_dir)
    except SettingsError as error:  # it has changed since it was checked
        raise InstanceError(str(error)) from error
    return ensure_instance(settings.state_dir, known_elsewhere=settings.cluster_address is not None)


def _check_ports(settings: Settings) -> None:
    """Raises InstanceError for an address that is not this machine's or a port that somebody else has."""
    if settings.cluster_address is not None:
        _check(settings.cluster_address, 0, "cluster_address: give one of this machine's")
    for listen in sorted({settings.listen, LOOPBACK}):
        _check(listen, settings.port, "give another --port")


def _check(host: str, port: int, advice: str) -> None:
    try:
        family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[
            0
        ]
        with socket.socket(family, kind) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as error:
        where = f"{host}:{port}" if port else host
        raise InstanceError(f"{where} cannot be listened on ({error.strerror}); {advice}") from error


def _hints(settings: Settings, jobs: str | None) -> str:
    clouds = settings.state_dir / "clouds.yaml"
    return f"""
Pumice is ready.
  endpoint     {settings.endpoint}/v3
  state        {settings.state_dir}
  credentials  {clouds}

Try:
  export OS_CLIENT_CONFIG_FILE={clouds}
  openstack --os-cloud pumice volume create --size 1 first
  openstack --os-cloud pumice volume list
  openstack --os-cloud pumice volume snapshot create --volume first first-snapshot
  pumice status --state-dir {settings.state_dir}
{_job_hints(settings, jobs) if jobs else ""}"""


def _job_hints(settings: Settings, jobs: str) -> str:
    return f"""  export RAY_AUTH_MODE=token RAY_AUTH_TOKEN_PATH={token_path(settings.state_dir)}
  ray job submit --address {jobs} --working-dir . -- python train.py
"""


def _detach(settings: Settings, config: Path | None) -> None:
    """Start this command again without a terminal, and say what it says until it is ready."""
    path = settings.state_dir / "logs" / "up.log"
    run = RunFile(settings.state_dir)
    if (running := run.read()) is None or not running.is_alive():
        with contextlib.suppress(OSError):  # then it goes on in the old one
            begin_anew(path)
    command = [sys.executable, "-m", "serve_app.command.main", "up", "--background"]
    command += ["--state-dir", str(settings.state_dir), "--port", str(settings.port)]
    if config is not None:
        command += ["--config", str(config.absolute())]
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "ab") as output:
        begin = output.tell()
        child = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True, cwd="/"
        )
    deadline = time.monotonic() + _DETACH_SECONDS
    with path.open(encoding="utf-8", errors="replace") as said:
        said.seek(begin)
        while child.poll() is None:
            found = run.read()
            ready = found is not None and found.pid == child.pid and found.ready
            time.sleep(0.2)
            click.echo(said.read(), nl=False)
            if ready:
                return
            if time.monotonic() > deadline:
                fail(f"not ready after {_DETACH_SECONDS} s; it goes on trying. See {path}, or stop it: pumice down")
        click.echo(said.read(), nl=False)
    raise SystemExit(child.returncode or 1)
