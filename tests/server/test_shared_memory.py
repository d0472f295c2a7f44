from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from server import shared_memory
from server.shared_memory import Regions, remove_left_behind

from ..conftest import ROOT

HOLDS_REGIONS = """
import sys, time
from pathlib import Path
from server import shared_memory
shared_memory.MEMORY = Path(sys.argv[1])
regions = shared_memory.Regions()
(shared_memory.MEMORY / f"{regions.prefix}region").write_bytes(bytes(10))
print(regions.prefix, flush=True)
time.sleep(60)
"""


@pytest.fixture(autouse=True)
def memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(shared_memory, "MEMORY", tmp_path)
    return tmp_path


def another_server(memory: Path) -> tuple[subprocess.Popen[str], str]:
    """A process that keeps a region, and the prefix of its name."""
    words = [sys.executable, "-c", HOLDS_REGIONS, str(memory)]
    process = subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    return process, process.stdout.readline().strip()


def test_those_of_a_server_that_was_killed_are_deleted_by_the_next_and_a_living_ones_are_not(memory: Path) -> None:
    (memory / "somebody_elses").touch()
    dead, dead_prefix = another_server(memory)
    living, living_prefix = another_server(memory)
    try:
        assert sorted(path.name for path in memory.glob("*_region")) == sorted(
            [f"{dead_prefix}region", f"{living_prefix}region"]
        )
        os.kill(dead.pid, signal.SIGKILL)
        dead.wait(10)
        assert remove_left_behind() == 1
        assert sorted(path.name for path in memory.iterdir()) == sorted(
            [f"{living_prefix}in_use", f"{living_prefix}region", "somebody_elses"]
        )
        regions = Regions()
        assert (memory / f"{living_prefix}region").is_file()
        regions.close()
    finally:
        for process in (dead, living):
            process.kill()
            process.communicate()


def test_a_start_after_a_crash_finds_none_and_keeps_its_name(memory: Path) -> None:
    regions = Regions()
    (memory / f"{regions.prefix}region").touch()
    regions.clear()
    assert [path.name for path in memory.iterdir()] == [f"{regions.prefix}in_use"]
    assert remove_left_behind() == 0
    assert (memory / f"{regions.prefix}in_use").is_file()


def test_an_end_leaves_nothing(memory: Path) -> None:
    regions = Regions()
    (memory / f"{regions.prefix}region").touch()
    regions.close()
    regions.close()
    assert list(memory.iterdir()) == []


def test_a_sign_that_was_taken_for_a_dead_ones_before_it_was_locked_is_made_again(
    memory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock, signs = shared_memory.fcntl.flock, []

    def late(file: int, how: int) -> None:
        if not signs:
            (sign,) = memory.iterdir()
            sign.unlink()
            signs.append(sign)
        lock(file, how)

    monkeypatch.setattr(shared_memory.fcntl, "flock", late)
    regions = Regions()
    assert [path.name for path in memory.iterdir()] == [f"{regions.prefix}in_use"]
    assert signs[0].name != f"{regions.prefix}in_use"
    regions.close()


def test_a_server_that_starts_makes_room_by_deleting_what_dead_ones_left(memory: Path) -> None:
    dead, prefix = another_server(memory)
    dead.kill()
    dead.communicate()
    assert (memory / f"{prefix}region").is_file()
    regions = Regions()
    assert [path.name for path in memory.iterdir()] == [f"{regions.prefix}in_use"]
    regions.close()
