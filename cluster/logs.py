"""Logs: JSON lines, one event a line, one file a process, and their reading back in order of time.

A line has `time` (UTC, as on the wire), `level`, `event`, `process`, and whatever the code has bound with
`structlog.contextvars.bind_contextvars` (`request_id`, `volume_id`, …). Values of keys that name a secret are replaced.
Loggers are got by `structlog.get_logger()`; before `configure` they print nothing.
"""

from __future__ import annotations

import fcntl
import itertools
import json
import logging
import logging.handlers
import os
import re
import time
import traceback
from collections.abc import Callable, Iterator, MutableMapping
from heapq import merge
from pathlib import Path
from types import TracebackType
from typing import Any

import orjson
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


def configure(directory: Path, process: str, level: str = "INFO") -> Path:
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
        structlog.processors.ExceptionRenderer(_exception),
        redact,
    ]
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.JSONRenderer(serializer=_json),
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


def free_name(directory: Path, process: str) -> str:
    """`process-0`, `process-1`, …: the first that no living process has got from here. It is ours until we end.

    For processes of which there are several: two that rotate one file would lose lines.
    """
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    for number in itertools.count():
        name = f"{process}-{number}"
        descriptor = os.open(directory / f".{name}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
        else:
            return name
    raise AssertionError("numbers do not end")


def _named(*names: str) -> logging.Logger:
    return logging.getLogger(names[0] if names else "pumice")


def _exception(exc_info: tuple[type[BaseException], BaseException, TracebackType | None]) -> str:
    # Not structlog's own, which prints it: Serve puts a print() in place that writes tuples.
    return "".join(traceback.format_exception(*exc_info)).rstrip()


def _json(event: Any, **_: Any) -> str:
    return orjson.dumps(event, default=str, option=orjson.OPT_NON_STR_KEYS).decode()


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


def read(directory: Path, wanted: Callable[[dict[str, Any]], bool] = lambda _: True) -> Iterator[dict[str, Any]]:
    """The wanted events of all files in `directory` in order of time."""
    files: dict[str, list[Path]] = {}
    for path in directory.glob("*.jsonl*"):
        files.setdefault(path.name.split(".jsonl")[0], []).append(path)
    yield from merge(*(_events(paths, wanted) for paths in files.values()), key=_when)


def parse(line: str) -> dict[str, Any] | None:
    """The event of a line; None when it is none (cut off by a crash)."""
    try:
        event = json.loads(line)
    except ValueError:
        return None
    return event if isinstance(event, dict) else None


def _events(paths: list[Path], wanted: Callable[[dict[str, Any]], bool]) -> Iterator[dict[str, Any]]:
    # The oldest file has the highest number.
    for path in sorted(paths, key=lambda item: -_number(item)):
        with path.open(encoding="utf-8", errors="replace") as lines:
            for line in lines:
                event = parse(line)
                if event is not None and wanted(event):
                    yield event


def _when(event: dict[str, Any]) -> str:
    return str(event.get("time", ""))


def _number(path: Path) -> int:
    tail = path.name.rsplit(".", 1)[-1]
    return int(tail) if tail.isdigit() else 0
