"""Whether the backends of the settings can be made, asked before anything is started. No storage is touched."""

from __future__ import annotations

from cluster.settings import Settings, SettingsError
from drivers import export_registry, registry


def check_backends(settings: Settings) -> None:
    """Raises SettingsError naming every backend whose driver or export is unknown or whose options do not fit."""
    wrong = []
    for name, backend in settings.backends.items():
        try:
            # Made and dropped: the constructor knows more than the names, and must not touch storage.
            registry.create(backend.driver, backend.options, settings.state_dir, name)
            for export in backend.exports:
                export_registry.create(export, backend.export_options.get(export, {}), settings.state_dir, name)
        except (ValueError, TypeError, ImportError, AttributeError) as error:
            wrong.append(f"backends.{name}: {error}")
    if wrong:
        raise SettingsError("\n".join(wrong))
