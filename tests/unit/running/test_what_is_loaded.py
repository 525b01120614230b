from __future__ import annotations

import json
import subprocess
import sys

import pytest

_SCRIPT = """
import importlib, json, sys
importlib.import_module(sys.argv[1])
heavy = {"sqlalchemy", "sqlmodel", "psycopg", "starlette", "ray.serve"}
print(json.dumps(sorted(heavy & sys.modules.keys())))
"""


@pytest.mark.parametrize("module", ["actors.volume", "actors.scheduler", "actors.conductor", "serve_app.command.main"])
def test_what_stays_in_memory_loads_no_sql(module: str) -> None:
    # Ray imports an actor's module wherever it is looked up: the scheduler's in every volume actor. `pumice up` stays.
    done = subprocess.run([sys.executable, "-c", _SCRIPT, module], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == []
