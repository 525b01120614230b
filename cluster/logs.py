"""Logs: JSON lines, one event a line, one file a process, and their reading back in order of time.

A line has `time` (UTC, as on the wire), `level`, `event`, `process`, and whatever the code has bound with
`structlog.contextvars.bind_contextvars` (`request_id`, `volume_id`, …). Values of keys that name a secret are replaced.
Loggers are got by `structlog.get_logger()`; before `configure` they print nothing.
"""

from __future__ import annotations

import json
import logging
import logging.handlers
import os
import re
import time
from collections.abc import Iterator, MutableMapping
from heapq import merge
from pathlib import Path
from typing import Any

import structlog

from cluster.outside import stamp

REDACTED = "***"
ROTATE_BYTES = 16 << 20
KEPT_FILES = 4
_OURS = {"pumice", "cluster", "actors", "serve_app", "drivers"}
_SECRET = re.compile(r"passw(or)?d|passphrase|secret|token|auth_?key|credential|authorization|api_?key", re.IGNORECASE)
_WORDS = {"token_seconds", "token_type"}
_IN_URL = re.compile(r"(://[^:/@\s]*:)[^@/\s]+@")


class _OwnFile(logging.handlers.RotatingFileHandler):
    """A rotating file that nobody but the owner can read."""

    def _open(self) -> Any:
        descriptor = os.open(self.baseFilename, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        return os.fdopen(descriptor, "a", encoding="utf-8")


def configure(process: str, directory: Path, level: str = "INFO") -> Path:
    """Send this process's events to `<directory>/<process>.jsonl` (made 0700, the file 0600); return its path.

    Other libraries' events go there from level WARNING up. Safe to repeat.
    """
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    path = directory / f"{process}.jsonl"
    handler = _OwnFile(path, maxBytes=ROTATE_BYTES, backupCount=KEPT_FILES)
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.ExtraAdder(),
        _with(process),
        structlog.processors.format_exc_info,
        redact,
    ]
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.JSONRenderer(default=str),
            ],
        )
    )
    handler.addFilter(lambda record: record.levelno >= logging.WARNING or record.name.partition(".")[0] in _OURS)
    root = logging.getLogger()
    for old in [item for item in root.handlers if isinstance(item, _OwnFile)]:
        root.removeHandler(old)
        old.close()
    root.addHandler(handler)
    for name in _OURS:
        logging.getLogger(name).setLevel(level)
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=_named,
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )
    return path


def _named(*_: Any) -> logging.Logger:
    return logging.getLogger("pumice")


def _with(process: str) -> structlog.typing.Processor:
    def add(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        record = event.get("_record")
        head = {
            "time": stamp(record.created if record is not None else time.time()),
            "level": event.pop("level", "info"),
        }
        return {**head, "event": event.pop("event", ""), "process": process, **event}

    return add


def redact(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """The event with every value replaced whose key names a secret, at any depth, and passwords in URLs struck out."""
    return {key: _redacted(key, value) for key, value in event.items()}


def _redacted(key: str, value: Any) -> Any:
    if key not in _WORDS and _SECRET.search(key):
        return REDACTED
    if isinstance(value, dict):
        return {inner: _redacted(str(inner), item) for inner, item in value.items()}
    if isinstance(value, list | tuple):
        return [_redacted("", item) for item in value]
    if isinstance(value, str):
        return _IN_URL.sub(rf"\1{REDACTED}@", value)
    return value


def read(directory: Path, **wanted: str) -> Iterator[dict[str, Any]]:
    """The events of all files in `directory` in order of time; of them those whose fields equal `wanted`."""
    files: dict[str, list[Path]] = {}
    for path in directory.glob("*.jsonl*"):
        files.setdefault(path.name.split(".jsonl")[0], []).append(path)
    yield from merge(*(_events(paths, wanted) for paths in files.values()), key=_when)


def _when(event: dict[str, Any]) -> str:
    return str(event.get("time", ""))


def _events(paths: list[Path], wanted: dict[str, str]) -> Iterator[dict[str, Any]]:
    # The oldest file has the highest number.
    for path in sorted(paths, key=lambda item: -_number(item)):
        with path.open(encoding="utf-8", errors="replace") as lines:
            for line in lines:
                event = parse(line)
                if event is not None and matches(event, wanted):
                    yield event


def parse(line: str) -> dict[str, Any] | None:
    """The event of a line; None when it is none (cut off by a crash)."""
    try:
        event = json.loads(line)
    except ValueError:
        return None
    return event if isinstance(event, dict) else None


def matches(event: dict[str, Any], wanted: dict[str, str]) -> bool:
    """Whether each wanted field of the event has the wanted value."""
    return all(event.get(key) == value for key, value in wanted.items())


def _number(path: Path) -> int:
    tail = path.name.rsplit(".", 1)[-1]
    return int(tail) if tail.isdigit() else 0
