"""Logs: JSON lines, one event a line, one file a process, and their reading back in order of time.

A line has `time` (UTC, as on the wire), `level`, `event`, `process`, and whatever the code has bound with
`structlog.contextvars.bind_contextvars` (`request_id`, `volume_id`, …). Values of keys that name a secret are replaced.
Loggers are got by `structlog.get_logger()`; before `configure` they print nothing.
"""

from __future__ import annotations

import contextlib
import fcntl
import itertools
import json
import logging
import os
import re
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, MutableMapping
from functools import lru_cache
from heapq import merge
from pathlib import Path
from typing import Any

import orjson
import structlog

from cluster.outside import stamp

REDACTED = "***"
ROTATE_BYTES = 16 << 20
KEPT_FILES = 4
_OURS = {"cluster", "actors", "serve_app", "drivers"}
_LEVELS = {"exception": "error", "warn": "warning", "fatal": "critical"}
_SECRET = re.compile(r"passw(or)?d|passphrase|secret|token|auth_?key|credential|authorization|api_?key", re.IGNORECASE)
_WORDS = {"token_seconds", "token_type"}
_IN_URL = re.compile(r"(://[^:/@\s]*:)[^@/\s]+@")


class _Sink:
    """One file of lines that nobody but the owner can read; a full one becomes `.1`, that `.2`, … `.KEPT_FILES`."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._file, self._size = self._open()

    def _open(self) -> tuple[int, int]:
        descriptor = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        return descriptor, os.fstat(descriptor).st_size

    def write(self, line: bytes) -> None:
        """Append the line. What cannot be written (a full disk) is lost: a log must not stop the service."""
        with self._lock, contextlib.suppress(OSError):
            if self._size and self._size + len(line) > ROTATE_BYTES:
                self._rotate()
            self._size += os.write(self._file, line)

    def _rotate(self) -> None:
        os.close(self._file)
        for number in range(KEPT_FILES, 0, -1):
            older = self._path.with_name(f"{self._path.name}.{number}")
            newer = self._path.with_name(f"{self._path.name}.{number - 1}") if number > 1 else self._path
            with contextlib.suppress(FileNotFoundError):
                newer.replace(older)
        self._file, self._size = self._open()


class _Foreign(logging.Handler):
    """What is said through the standard library's logging, by other libraries from WARNING up, as events of ours."""

    def __init__(self, process: str, sink: _Sink) -> None:
        super().__init__()
        self._process, self._sink = process, sink
        self.addFilter(lambda record: record.levelno >= logging.WARNING or record.name.partition(".")[0] in _OURS)

    def emit(self, record: logging.LogRecord) -> None:
        event: dict[str, Any] = {"event": record.getMessage(), "logger": record.name}
        if record.exc_info and record.exc_info[0] is not None:
            event["exception"] = _traceback(record.exc_info[1])
        head = {"time": stamp(record.created), "level": record.levelname.lower(), "process": self._process}
        self._sink.write(_line(redact(None, "", {**head, **structlog.contextvars.get_contextvars(), **event})))


def configure(directory: Path, process: str, level: str = "INFO") -> Path:
    """Send this process's events to `<directory>/<process>.jsonl` (made 0700, the file 0600); return its path.

    Other libraries' events go there from level WARNING up. Safe to repeat.
    """
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    path = directory / f"{process}.jsonl"
    sink = _Sink(path)
    root = logging.getLogger()
    for old in [handler for handler in root.handlers if isinstance(handler, _Foreign)]:
        root.removeHandler(old)
    root.addHandler(_Foreign(process, sink))
    for name in _OURS:
        logging.getLogger(name).setLevel(level)
    structlog.configure(
        # The shortest way from an event to its line: requests are logged on the hot path.
        processors=[structlog.contextvars.merge_contextvars, _with(process), redact, _render],
        logger_factory=lambda *_names: _Writer(sink),
        wrapper_class=structlog.make_filtering_bound_logger(level.lower()),
        cache_logger_on_first_use=False,
    )
    return path


class _Writer:
    """The logger at the bottom of structlog: every level writes the finished line."""

    def __init__(self, sink: _Sink) -> None:
        self._sink = sink

    def msg(self, line: bytes) -> None:
        self._sink.write(line)

    debug = info = warning = warn = error = critical = fatal = exception = failure = err = log = msg


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


def _with(process: str) -> structlog.typing.Processor:
    def add(_logger: Any, method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        error = event.pop("exc_info", None)
        head = {"time": stamp(time.time()), "level": _LEVELS.get(method, method), "event": event.pop("event", "")}
        line = {**head, "process": process, **event}
        if error:
            line["exception"] = _traceback(error if isinstance(error, BaseException) else sys.exception())
        return line

    return add


def _traceback(error: BaseException | None) -> str:
    # Not structlog's own, which prints it: Serve puts a print() in place that writes tuples.
    return "".join(traceback.format_exception(error)).rstrip() if error is not None else ""


def _render(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> bytes:
    return _line(event)


def _line(event: MutableMapping[str, Any]) -> bytes:
    return orjson.dumps(event, default=str, option=orjson.OPT_NON_STR_KEYS | orjson.OPT_APPEND_NEWLINE)


def redact(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """The event with every value replaced whose key names a secret, at any depth, and passwords in URLs struck out."""
    return {key: _redacted(key, value) for key, value in event.items()}


@lru_cache(maxsize=1024)
def _is_secret(key: str) -> bool:
    return key not in _WORDS and _SECRET.search(key) is not None


def _redacted(key: str, value: Any) -> Any:
    if _is_secret(key):
        return REDACTED
    if isinstance(value, dict):
        return {inner: _redacted(str(inner), item) for inner, item in value.items()}
    if isinstance(value, list | tuple):
        return [_redacted("", item) for item in value]
    if isinstance(value, str):
        return _IN_URL.sub(rf"\1{REDACTED}@", value) if "://" in value else value
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
