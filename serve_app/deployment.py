"""The application of one replica: settings from the file, the store, who says who the caller is, and the bell.

Ray calls `build_app` inside each replica process; nothing here runs anywhere else.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from actors import ray_port
from actors.names import CONDUCTOR
from cluster import logs
from cluster.outside import Outside
from cluster.settings_file import load_effective
from cluster.store.open import open_store
from serve_app import app
from serve_app.wire.route import Room

if TYPE_CHECKING:
    from serve_app.wire.exchange import App


def build_app(settings_path: str) -> App:
    """The ASGI application for the settings in `settings_path`, which `pumice up` wrote. Raises SettingsError."""
    settings = load_effective(Path(settings_path))
    directory = settings.state_dir / "logs"
    logs.configure(directory, logs.free_name(directory, "api"))
    nova = app.nova_of(settings)
    room = Room(
        store=open_store(settings.database),
        settings=settings,
        outside=Outside(),
        ring=lambda: ray_port.ring(CONDUCTOR, "wake"),
        servers=None if nova is None else nova.attachment,
    )
    return app.build(room, app.authenticator_of(room), closing=() if nova is None else (nova.close,))
