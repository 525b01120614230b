from __future__ import annotations

import os
import subprocess
import sys

from actors import processes

_SLEEP = [sys.executable, "-c", "import time; print(flush=True); time.sleep(60)"]


def sleeper(mark: str) -> subprocess.Popen[bytes]:
    child = subprocess.Popen(_SLEEP, env={**os.environ, processes.MARK: mark}, stdout=subprocess.PIPE)
    assert child.stdout is not None
    child.stdout.readline()
    child.stdout.close()
    return child


def test_processes_are_found_by_their_mark_and_ended() -> None:
    ours, other = sleeper("unit-a"), sleeper("unit-b")
    try:
        assert [process.pid for process in processes.of_instance("unit-a")] == [ours.pid]
        assert processes.stop("unit-a", first=()) == []
        assert processes.of_instance("unit-a") == []
        assert processes.is_alive(other.pid)
    finally:
        ours.wait()
        other.kill()
        other.wait()
    assert not processes.is_alive(other.pid)


def test_a_program_that_is_spared_goes_on() -> None:
    ours = sleeper("unit-spared")
    try:
        (found,) = processes.of_instance("unit-spared")
        assert processes.stop("unit-spared", first=(), spare=(found.name,)) == []
        assert processes.is_alive(ours.pid)
    finally:
        ours.kill()
        ours.wait()


def test_a_number_used_again_is_another_process() -> None:
    mine = processes.started_at(os.getpid())
    assert mine.isdigit()
    assert processes.started_at(1) != mine
    assert processes.started_at(2**22 + 1) == ""
