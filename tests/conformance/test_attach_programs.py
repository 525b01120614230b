"""Programs of the system are waited for as long as something moves, and no longer."""

from __future__ import annotations

import itertools
import time
from pathlib import Path

import pytest

from drivers.attach import programs
from drivers.attach.contents import completed
from drivers.attach.programs import AttachError, Watch, run

_WAITS = ["sh", "-c", 'while [ ! -e "$0" ]; do sleep 0.02; done; echo done']


def test_what_a_program_says_when_it_fails_is_told() -> None:
    with pytest.raises(AttachError, match=r"^sh: first$"):
        run(["sh", "-c", "echo first >&2; echo second >&2; exit 3"])
    assert run(["sh", "-c", "echo out; exit 2"], (0, 2)) == "out\n"
    with pytest.raises(AttachError, match="no-such-program is not installed"):
        run(["no-such-program"])


def test_one_that_somebody_else_ended_is_said_so() -> None:
    with pytest.raises(AttachError, match=r"^sh was ended by signal 11 \(Segmentation fault\)"):
        run(["sh", "-c", "kill -SEGV $$"])


def test_a_request_that_hangs_moves_nothing() -> None:
    one_hangs = "   10  1   80   5   20   2  160   7   {}   {}   {}   3   0   24   1   4   2\n"
    assert completed(one_hangs.format(1, 900, 1900)) == completed(one_hangs.format(2, 950, 2000))
    done = one_hangs.split()
    for number in (0, 2, 4, 6, 11, 13, 15):  # reads, writes, discards, their sectors, flushes
        moved = [*done[:number], str(int(done[number]) + 1), *done[number + 1 :]]
        assert completed(" ".join(moved)) != completed(one_hangs), number
    assert completed("10 1 80 5 20 2 160 7 0 9 9")  # of a kernel that knows no discards


def test_one_that_does_not_end_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(programs, "_SECONDS", 0.1)
    monkeypatch.setattr(programs, "_LAST_SECONDS", 0.1)
    with pytest.raises(AttachError, match=r"sleep was not done after 0\.1 s"):
        run(["sleep", "60"])


def test_what_moves_is_waited_for_and_what_does_not_is_made_to_fail(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(programs, "_SECONDS", 0.1)
    given_up: list[float] = []
    moves = itertools.count()

    def give_up() -> None:
        given_up.append(time.monotonic())
        (tmp_path / "end").touch()

    def moved() -> str:
        if (step := next(moves)) == 12:
            (tmp_path / "end").touch()
        return str(step)

    assert run([*_WAITS, str(tmp_path / "end")], watch=Watch(moved, give_up)) == "done\n"
    assert given_up == []
    (tmp_path / "end").unlink()
    assert run([*_WAITS, str(tmp_path / "end")], watch=Watch(lambda: "", give_up)) == "done\n"
    assert len(given_up) == 1
