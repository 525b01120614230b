"""The instance under test: `pumice up` on a directory of its own, its pool an XFS image, records on either engine."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Engine, create_engine, text

from actors.instance import mark_of
from tests.chaos.targets import Targets
from tests.integration.conftest import Service, free_port
from tests.integration.postgresql_server import PostgresqlServer

REPLICAS = 2
_IMAGE_GIB = 20
_SETTINGS = {
    "PUMICE_JOBS": "false",
    "PUMICE_BACKENDS": json.dumps(
        {
            "reflink": {
                "driver": "reflink",
                "options": {"image_size_gib": _IMAGE_GIB, "max_over_subscription_ratio": 1000.0},
            }
        }
    ),
    "PUMICE_REPLICAS": str(REPLICAS),
    "PUMICE_IDENTITY__TOKEN_SECONDS": "86400",
    **{f"PUMICE_QUOTAS__{name}": "-1" for name in ("VOLUMES", "SNAPSHOTS", "GIGABYTES")},
}


@dataclass
class Place:
    """A running instance; `server` is the database server when it is not SQLite's file. `keep`: something is wrong, so
    its directory is to be left when it has been stopped."""

    service: Service
    targets: Targets
    server: PostgresqlServer | None
    engine: Engine
    keep: bool = False

    def supervisor(self) -> tuple[int, bool]:
        """The process of `pumice up`, and whether it says that all is ready."""
        run = json.loads((self.service.state_dir / "run" / "up.json").read_text())
        return int(run["pid"]), bool(run["ready"])

    def live_operations(self) -> list[str]:
        """What the journal says is under way. Raises SQLAlchemyError while the database is away."""
        with self.engine.connect() as db:
            rows = db.execute(text("SELECT kind, resource_id, error FROM operation WHERE state = 'live'"))
            return [f"{kind} of {resource}: {error or 'under way'}" for kind, resource, error in rows]

    def database_damage(self) -> str | None:
        """What SQLite finds wrong with its file; None when nothing is."""
        if self.server is not None:
            return None
        with self.engine.connect() as db:
            found = [str(row[0]) for row in db.execute(text("PRAGMA integrity_check"))]
        return None if found == ["ok"] else "; ".join(found)

    def volume_file(self, volume_id: str) -> Path:
        """Where a volume's bytes are."""
        return self.service.state_dir / "pools" / "reflink" / "volumes" / f"volume-{volume_id}"


@contextlib.contextmanager
def own_place(database: str) -> Iterator[Place]:
    """A running instance on `database` (sqlite or postgresql), stopped at the end. It is removed unless the end is an
    error or `keep` was set: then its logs are left to look at."""
    directory = Path(tempfile.mkdtemp(prefix="pumice-chaos-"))
    service = Service(directory / "state", free_port(), dict(_SETTINGS))
    server = None
    whole = False
    try:
        url = f"sqlite:///{service.state_dir / 'pumice.db'}"
        if database == "postgresql":
            server = PostgresqlServer()
            server.start()
            url = server.new_database()
            service.variables["PUMICE_DATABASE_URL"] = url
        service.up()
        engine = create_engine(url, pool_pre_ping=True)
        place = Place(service, Targets(mark_of(service.state_dir), REPLICAS), server, engine)
        yield place
        engine.dispose()
        whole = not place.keep
    finally:
        down = service.run("down", timeout=120)
        if server is not None:
            server.remove()
        if whole and down.returncode == 0 and not service.leftovers():
            shutil.rmtree(directory, ignore_errors=True)
        else:
            print(f"chaos: {directory} is left to look at {down.stderr.strip()}")


def start_again(place: Place) -> float:
    """Kill `pumice up`, and start it again as its user would; return when (monotonic) it was asked to start."""
    pid, _ = place.supervisor()
    os.kill(pid, 9)
    while Path(f"/proc/{pid}/stat").exists() and " Z " not in Path(f"/proc/{pid}/stat").read_text():
        time.sleep(0.01)
    asked = time.monotonic()
    place.service.up()
    return asked
