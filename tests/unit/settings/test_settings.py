from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from cluster.settings import SettingsError, load
from cluster.settings_file import write_private
from drivers import entry_options, export_registry
from serve_app.command.backends import check_backends
from tests.unit.attachments.memory_export import ExportStore, MemoryExport


@pytest.fixture(autouse=True)
def no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for key in [key for key in os.environ if key.startswith("PUMICE_")]:
        monkeypatch.delenv(key)


@pytest.mark.parametrize(
    ("variable", "value", "named"),
    [
        ("PUMICE_BACKENDS", "x", "PUMICE_BACKENDS:"),
        ("PUMICE_IDENTITY", "foo", "PUMICE_IDENTITY:"),
        ("PUMICE_IDENTITY", "3", "identity:"),
        ("PUMICE_BACKENDS__A__OPTIONS", "foo", "PUMICE_BACKENDS__A__OPTIONS:"),
        ("PUMICE_BACKENDS__A", "foo", "backends.a:"),
        ("PUMICE_QUOTAS", "[1", "PUMICE_QUOTAS:"),
        ("PUMICE_NO_SUCH", "1", "PUMICE_NO_SUCH:"),
        ("PUMICE_HOST_NAME", "a@b", "host_name:"),
    ],
)
def test_a_variable_that_cannot_be_understood_is_named(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str, named: str
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(SettingsError) as refused:
        load()
    assert str(refused.value).startswith(named)


def test_nested_variables_still_add_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PUMICE_BACKENDS", '{"fast": {"driver": "memory"}}')
    monkeypatch.setenv("PUMICE_BACKENDS__FAST__OPTIONS__capacity_gib", "7")
    assert load().backends["fast"].options == {"capacity_gib": "7"}


@pytest.mark.parametrize(
    "url",
    ["sqlite:///x.db", "sqlite://", "sqlite:///:memory:", "mysql://u:secret@h/db", "postgresql://u:secret@h/db", "x"],
)
def test_a_database_that_processes_would_not_share_is_refused(url: str) -> None:
    with pytest.raises(SettingsError, match=r"^database_url: ") as refused:
        load({"database_url": url})
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize("url", ["sqlite:////var/lib/x.db", "postgresql+psycopg://u:secret@h/db"])
def test_a_database_is_taken_as_it_is(url: str) -> None:
    assert load({"database_url": url}).database == url


def test_the_conductor_must_look_more_often_than_it_renews() -> None:
    with pytest.raises(SettingsError, match=r"^timing: poll .* lease"):
        load({"timing": {"poll": 4, "lease": 12}})
    assert load({"timing": {"poll": 3.9, "lease": 12}}).timing.poll == 3.9


@pytest.mark.parametrize(
    ("timing", "reason"),
    [
        ({"heartbeat": 6}, "service_down must be more than twice heartbeat"),
        ({"heartbeat": 6, "service_down": 20}, "backend_lease must be more than twice heartbeat"),
        ({"service_down": 11}, "service_down must not be less than backend_lease"),
        ({"backend_lease": 13}, "service_down must not be less than backend_lease"),
        ({"lease": 3}, "poll must be less than a third of lease"),
    ],
)
def test_times_that_do_not_fit_together_are_refused(timing: dict[str, float], reason: str) -> None:
    with pytest.raises(SettingsError, match=rf"^timing: {reason}"):
        load({"timing": timing})


def test_times_that_just_fit_together() -> None:
    load({"timing": {"heartbeat": 5.9, "service_down": 12, "backend_lease": 12, "lease": 3.1}})


def test_a_private_file_and_its_name_are_synced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[Path] = []
    sync = os.fsync

    def note(descriptor: int) -> None:
        synced.append(Path(f"/proc/self/fd/{descriptor}").readlink())
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", note)
    write_private(tmp_path / "f", "text")
    assert synced == [tmp_path / ".f.new", tmp_path]
    assert (tmp_path / "f").read_text() == "text"


def test_exports_of_a_backend() -> None:
    nbd = {"exports": ["nbd", "local"], "export_options": {"nbd": {"port_first": 7000}}}
    backends = load({"backends": {"fast": nbd, "plain": {}}}).backends
    assert (backends["fast"].exports, backends["plain"].exports) == (["nbd", "local"], ["local"])
    assert backends["fast"].export_options == {"nbd": {"port_first": 7000}}


@pytest.mark.parametrize(
    ("backend", "reason"),
    [
        ({"exports": ["nbd", "nbd"]}, "names an export twice"),
        ({"exports": ["nbd"], "export_options": {"iscsi": {}}}, "are for iscsi, which exports does not name"),
    ],
)
def test_exports_that_do_not_fit(backend: dict[str, object], reason: str) -> None:
    with pytest.raises(SettingsError, match=reason):
        load({"backends": {"fast": backend}})


@pytest.mark.parametrize(
    ("exports", "options", "reason"),
    [
        (["tape"], {}, "there is no export 'tape'; there are iscsi, local, nbd"),
        (["nbd"], {"nbd": {"speed": 1}}, "export 'nbd': 'speed': unknown option"),
    ],
)
def test_exports_are_checked_before_anything_starts(
    tmp_path: Path, exports: list[str], options: dict[str, object], reason: str
) -> None:
    backend = {"driver": "memory", "exports": exports, "export_options": options}
    settings = load({"state_dir": tmp_path, "backends": {"fast": backend}})
    with pytest.raises(SettingsError, match=f"backends.fast: .*{reason}"):
        check_backends(settings)
    assert list(tmp_path.iterdir()) == []


class _Tape:
    """A third party's export, by its entry point."""

    name, value = "tape", "tape:EXPORT"

    def __init__(self, loaded: object) -> None:
        self.loaded = loaded

    def load(self) -> object:
        return self.loaded


class _Nothing(BaseModel):
    pass


def test_a_third_partys_export_is_found_by_its_entry_point(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    export = MemoryExport(ExportStore(), "tape")
    kind = export_registry.ExportKind(_Nothing, lambda _options, _state_dir, _backend, _host: export)
    monkeypatch.setattr(entry_options, "entry_points", lambda **_asked: [_Tape(kind)])
    assert export_registry.create("tape", {}, tmp_path, "fast") is export
    assert "tape" in export_registry.names()
    monkeypatch.setattr(entry_options, "entry_points", lambda **_asked: [_Tape("no kind")])
    with pytest.raises(TypeError, match=r"is no drivers\.export_registry\.ExportKind"):
        export_registry.create("tape", {}, tmp_path, "fast")
    made: Any = object()
    wrong = export_registry.ExportKind(_Nothing, lambda _options, _state_dir, _backend, _host: made)
    monkeypatch.setattr(entry_options, "entry_points", lambda **_asked: [_Tape(wrong)])
    with pytest.raises(TypeError, match=r"which is no drivers\.protocols\.Export"):
        export_registry.create("tape", {}, tmp_path, "fast")
