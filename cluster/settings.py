"""All settings: one frozen object, from arguments, `PUMICE_*` variables, a TOML file and defaults, in that order.

A key that does not exist or a value that does not fit raises SettingsError, which names the key and the reason.
Nested keys in variables are joined by two underscores: `PUMICE_IDENTITY__MODE=noauth`.
"""

from __future__ import annotations

import ipaddress
import os
import re
import socket
import tomllib
from enum import StrEnum
from pathlib import Path
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)
from pydantic_settings import SettingsError as PydanticSettingsError

from cluster.storage_network.settings import StorageNetworkSettings

PREFIX = "PUMICE_"
# Variables that processes of an instance carry for other ends than settings.
_NOT_SETTINGS = {"PUMICE_CONFIG", "PUMICE_INSTANCE"}
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}")
# Ray's rules for labels; a value may be empty, and a key may have a prefix (`example.com/disk`).
_LABEL_VALUE = re.compile(r"([A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?)?")
_LABEL_KEY = re.compile(r"([a-z0-9.-]{1,253}/)?[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?")
# Those that Pumice and Ray set themselves.
KEPT_LABELS = ("pumice.io/", "ray.io/")


class SettingsError(ValueError):
    """A setting is unknown or does not fit."""


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class IdentityMode(StrEnum):
    """Who says who the caller is."""

    EMBEDDED = "embedded"
    KEYSTONE = "keystone"
    NOAUTH = "noauth"


class IdentitySettings(_Frozen):
    """Identity. `token_seconds` is the life of an embedded token; the `keystone_*` values are the service user with
    which tokens are validated; `cache_seconds` is how long a validation may be remembered. `cluster_user` is the
    embedded user as whom programs of the Ray cluster (tasks, jobs) act that bring no user of their own; "" lets none of
    them in: whoever may run tasks has the cluster's token, and could read that user's password on the head anyway."""

    mode: IdentityMode = IdentityMode.EMBEDDED
    token_seconds: int = Field(default=3600, ge=1, le=7 * 86400)
    keystone_url: str | None = None
    keystone_username: str = "cinder"
    keystone_password: SecretStr | None = None
    keystone_project: str = "service"
    keystone_user_domain: str = "Default"
    keystone_project_domain: str = "Default"
    cache_seconds: int = Field(default=60, ge=0, le=3600)
    cluster_user: str = Field(default="admin", max_length=255)

    @model_validator(mode="after")
    def _keystone_is_whole(self) -> Self:
        if self.mode is IdentityMode.KEYSTONE and not (self.keystone_url and self.keystone_password):
            raise ValueError("mode 'keystone' needs keystone_url and keystone_password")
        return self


class BackendSettings(_Frozen):
    """A backend: its driver, the driver's own options, and which nodes run it (Ray label selector;
    empty: all nodes). `exports` are the ways by which consumers may reach its volumes, the preferred one first;
    `export_options` are each export's own."""

    driver: str = "reflink"
    label_selector: dict[str, str] = Field(default_factory=dict)
    availability_zone: str | None = None
    options: dict[str, Any] = Field(default_factory=dict)
    exports: list[str] = Field(default_factory=lambda: ["local"])
    export_options: dict[str, dict[str, Any]] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _exports_fit(self) -> Self:
        if len(set(self.exports)) != len(self.exports):
            raise ValueError("exports names an export twice")
        unknown = sorted(self.export_options.keys() - set(self.exports))
        if unknown:
            raise ValueError(f"export_options are for {', '.join(unknown)}, which exports does not name")
        return self


class QuotaSettings(_Frozen):
    """Limits of a project that has none of its own; -1 is unlimited. Cinder's defaults."""

    volumes: int = Field(default=10, ge=-1)
    snapshots: int = Field(default=10, ge=-1)
    gigabytes: int = Field(default=1000, ge=-1)
    backups: int = Field(default=10, ge=-1)
    backup_gigabytes: int = Field(default=1000, ge=-1)
    per_volume_gigabytes: int = Field(default=-1, ge=-1)
    groups: int = Field(default=10, ge=-1)


class TimingSettings(_Frozen):
    """Times in seconds. Why each has its value: docs/reference.md."""

    heartbeat: float = Field(default=3.0, gt=0, le=300)
    service_down: float = Field(default=12.0, gt=0, le=3600)
    lease: float = Field(default=10.0, gt=0, le=600)
    backend_lease: float = Field(default=12.0, gt=0, le=600)
    poll: float = Field(default=1.0, gt=0, le=60)
    reconcile: float = Field(default=30.0, gt=0, le=3600)
    driver_call: float = Field(default=3600.0, gt=0)
    hung: float = Field(default=15.0, ge=5, le=3600)
    message_life: float = Field(default=30 * 86400.0, gt=0)
    operation_history: float = Field(default=7 * 86400.0, gt=0)

    @model_validator(mode="after")
    def _fit_together(self) -> Self:
        if self.service_down <= 2 * self.heartbeat:
            raise ValueError("service_down must be more than twice heartbeat, or one lost report is an outage")
        if self.backend_lease <= 2 * self.heartbeat:
            raise ValueError(
                "backend_lease must be more than twice heartbeat, or one lost report makes a backend refuse its work"
            )
        if self.service_down < self.backend_lease:
            raise ValueError(
                "service_down must not be less than backend_lease, or a service that counts as down still acts"
            )
        if self.poll >= self.lease / 3:
            raise ValueError("poll must be less than a third of lease, or the lease is renewed too late")
        return self


class SchedulerSettings(_Frozen):
    """Weigher multipliers (0 turns one off) and capacity defaults, as Cinder's."""

    capacity_weight_multiplier: float = 1.0
    allocated_capacity_weight_multiplier: float = 0.0
    volume_number_multiplier: float = 0.0
    goodness_multiplier: float = 0.0
    max_attempts: int = Field(default=3, ge=1, le=20)


def _default_state_dir() -> Path:
    base = os.environ.get("XDG_STATE_HOME")
    return (Path(base) if base else Path.home() / ".local" / "state") / "pumice"


def _host_name() -> str:
    name = re.sub(r"[^A-Za-z0-9_.-]", "-", socket.gethostname())
    return name if _NAME.fullmatch(name) else "localhost"


class Settings(BaseSettings):
    """Everything an instance is told. `state_dir` holds its database, pools, secrets, logs and sockets (mode 0700)."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, env_nested_delimiter="__", extra="forbid", frozen=True)

    state_dir: Path = Field(default_factory=_default_state_dir)
    listen: str = "127.0.0.1"
    port: int = Field(default=8776, ge=1, le=65535)
    cluster_address: str | None = None
    labels: dict[str, str] = Field(default_factory=dict)
    replicas: int = Field(default=2, ge=1, le=64)
    host_name: str = Field(default_factory=_host_name)
    region: str = "RegionOne"
    availability_zone: str = "nova"
    database_url: SecretStr | None = None
    default_volume_type: str = Field(default="__DEFAULT__", min_length=1, max_length=255)
    max_limit: int = Field(default=1000, ge=1, le=100_000)
    max_body_bytes: int = Field(default=114_688, ge=1024)
    public_url: str | None = None
    jobs: bool = True
    dashboard: bool = False
    object_store_bytes: int = Field(default=80 << 20, ge=80 << 20)
    identity: IdentitySettings = IdentitySettings()
    storage_network: StorageNetworkSettings = StorageNetworkSettings()
    backends: dict[str, BackendSettings] = Field(default_factory=lambda: {"reflink": BackendSettings()}, min_length=1)
    quotas: QuotaSettings = QuotaSettings()
    timing: TimingSettings = TimingSettings()
    scheduler: SchedulerSettings = SchedulerSettings()

    @field_validator("state_dir")
    @classmethod
    def _absolute(cls, value: Path) -> Path:
        return value.expanduser().absolute()

    @field_validator("backends")
    @classmethod
    def _names(cls, value: dict[str, BackendSettings]) -> dict[str, BackendSettings]:
        for name in value:
            if not _NAME.fullmatch(name):
                raise ValueError(f"backend name {name!r}: use letters, digits, '_', '-', '.' (at most 63)")
        return value

    @field_validator("host_name")
    @classmethod
    def _host_names(cls, value: str) -> str:
        if not _NAME.fullmatch(value):
            raise ValueError(f"{value!r}: use letters, digits, '_', '-', '.' (at most 63)")
        return value

    @field_validator("cluster_address")
    @classmethod
    def _addresses(cls, value: str | None) -> str | None:
        if value is None:
            return None
        try:
            address = ipaddress.IPv4Address(value)
        except ValueError:
            raise ValueError(f"{value!r} is not an IPv4 address") from None
        if address.is_loopback or address.is_unspecified or address.is_multicast:
            raise ValueError(f"{value} is no address under which another machine could reach this one")
        return value

    @field_validator("labels")
    @classmethod
    def _node_labels(cls, value: dict[str, str]) -> dict[str, str]:
        for key, text in value.items():
            if not _LABEL_KEY.fullmatch(key) or not _LABEL_VALUE.fullmatch(text):
                raise ValueError(f"label {key[:80]}={text[:80]}: use letters, digits, '_', '-', '.' (at most 63)")
            if key.startswith(KEPT_LABELS):
                raise ValueError(f"label {key}: Pumice and Ray set those; see host_name and availability_zone")
        return value

    @field_validator("database_url")
    @classmethod
    def _databases(cls, value: SecretStr | None) -> SecretStr | None:
        # Not with SQLAlchemy, which volume actors do not load. The URL may hold a password: no message repeats it.
        url = "" if value is None else value.get_secret_value()
        scheme, _, rest = url.partition("://")
        if value is None or (scheme == "postgresql+psycopg" and rest):
            return value
        if scheme != "sqlite":
            raise ValueError(
                f"{scheme!r} is not a kind of database known here; "
                "write postgresql+psycopg://USER:PASSWORD@HOST/NAME or sqlite:////ABSOLUTE/PATH"
            )
        if not rest.startswith("//"):
            raise ValueError("an SQLite file needs an absolute path: sqlite:////ABSOLUTE/PATH (four slashes)")
        return value

    @model_validator(mode="after")
    def _noauth_is_local(self) -> Self:
        if self.identity.mode is IdentityMode.NOAUTH and not is_loopback(self.listen):
            raise ValueError(
                f"identity.mode 'noauth' is refused on {self.listen}: listen on 127.0.0.1, or authenticate"
            )
        return self

    @model_validator(mode="after")
    def _clients_find_it(self) -> Self:
        if self.public_url is None and is_unspecified(self.listen):
            raise ValueError(
                f"public_url: with listen {self.listen!r} nobody could know where the service is; "
                "set public_url to the URL that clients use"
            )
        return self

    @property
    def database(self) -> str:
        """The database URL in force."""
        if self.database_url is not None:
            return self.database_url.get_secret_value()
        return f"sqlite:///{self.state_dir / 'pumice.db'}"

    @property
    def endpoint(self) -> str:
        """The URL under which clients find the service (no trailing slash)."""
        host = f"[{self.listen}]" if ":" in self.listen else self.listen
        return (self.public_url or f"http://{host}:{self.port}").rstrip("/")

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003 -- pydantic-settings calls it so
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return (init_settings,)


def is_loopback(host: str) -> bool:
    """Whether `host` (an address or `localhost`) is reachable from this machine only."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def is_unspecified(host: str) -> bool:
    """Whether `host` stands for all addresses of the machine (`0.0.0.0`, `::`, nothing) and so names none."""
    try:
        return not host or ipaddress.ip_address(host).is_unspecified
    except ValueError:
        return False


def load(arguments: dict[str, Any] | None = None, config: Path | None = None) -> Settings:
    """Settings from `arguments` (those that are not None), then variables, then the TOML file `config`, then defaults.

    Raises SettingsError, which names every wrong key and the reason.
    """
    merged: dict[str, Any] = {}
    if config is not None:
        try:
            merged = tomllib.loads(config.read_text())
        except OSError as error:
            raise SettingsError(f"{config}: cannot be read: {error.strerror}") from error
        except tomllib.TOMLDecodeError as error:
            raise SettingsError(f"{config}: is not TOML: {error}") from error
    known = {f"{PREFIX}{name.upper()}" for name in Settings.model_fields}
    for key in os.environ:
        if key.startswith(PREFIX) and key.split("__")[0].upper() not in known and key not in _NOT_SETTINGS:
            raise SettingsError(f"{key}: no such setting; known are {', '.join(sorted(known))}")
    merged = _merge(merged, _variables())
    merged = _merge(merged, {key: value for key, value in (arguments or {}).items() if value is not None})
    try:
        return Settings(**merged)
    except ValidationError as error:
        raise SettingsError("\n".join(_reason(item) for item in error.errors(include_url=False))) from error


def _variables() -> dict[str, Any]:
    try:
        return EnvSettingsSource(Settings, env_prefix=PREFIX, env_nested_delimiter="__")()
    except PydanticSettingsError as error:
        # It names the field, and not always the variable: there may be several.
        field = next((name for name in Settings.model_fields if f'"{name}"' in str(error)), "")
        begin = f"{PREFIX}{field}".upper()
        keys = sorted(key for key in os.environ if key.upper() == begin or key.upper().startswith(f"{begin}__"))
        raise SettingsError(
            f"{', '.join(keys) or field}: is not JSON; give a JSON object, or its keys one by one as {begin}__KEY=VALUE"
        ) from error


def _reason(item: Any) -> str:
    where = ".".join(str(part) for part in item["loc"]) or "settings"
    if item["type"] == "extra_forbidden":
        return f"{where}: no such setting"
    return f"{where}: {item['msg'].removeprefix('Value error, ')}"


def _merge(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    merged = dict(below)
    for key, value in above.items():
        old = merged.get(key)
        merged[key] = _merge(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
    return merged
