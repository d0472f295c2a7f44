"""The watch over models' processes, against servers that behave as newer ones of Triton do."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from server import stubs

from ..conftest import ROOT

SERVER = """
import socket, subprocess, sys, time
stub = subprocess.Popen([sys.argv[1], sys.argv[2]])
if sys.argv[4] == "started":
    listener = socket.create_server(("127.0.0.1", 0))
stub.wait()
time.sleep(float(sys.argv[3]))
sys.exit(7)
"""
"""Has one model, whose process ends after a while and is reaped at once; goes on for some time, and ends with 7."""

WATCHED = """
import logging, sys
from server import stubs
stubs.EVERY_S = 0.2
try:
    code = stubs.run_watched([sys.executable, "-c", *sys.argv[1:]])
except stubs.ModelDied as error:
    print(error)
    code = 1
sys.exit(code)
"""


def run(folder: Path, *, model: str, then_s: float, state: str = "started") -> subprocess.CompletedProcess[str]:
    stub = folder / "triton_python_backend_stub"
    shutil.copy(shutil.which("sleep") or "", stub)
    command = [sys.executable, "-c", WATCHED, SERVER, str(stub), model, str(then_s), state]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)


def test_a_models_process_that_died_and_was_reaped_is_missed(tmp_path: Path) -> None:
    began = time.monotonic()
    ended = run(tmp_path, model="1", then_s=50)
    assert ended.returncode == 1
    assert "the process of a model has died" in ended.stdout
    assert time.monotonic() - began < 40


def test_a_server_that_ends_its_models_and_then_itself_has_its_own_exit_code(tmp_path: Path) -> None:
    ended = run(tmp_path, model="1", then_s=0.4)
    assert ended.returncode == 7
    assert ended.stdout == ""


def test_while_other_models_still_load_one_that_failed_ends_nothing(tmp_path: Path) -> None:
    """The server will say why, and builds of engines that are cut off would be left in part."""
    ended = run(tmp_path, model="0.1", then_s=0.2 * (stubs.GONE_LOOKS + 5), state="loading")
    assert ended.returncode == 7
    assert ended.stdout == ""


def test_where_models_may_be_unloaded_a_process_that_is_gone_is_none_of_the_dead(tmp_path: Path) -> None:
    stub = shutil.copy(shutil.which("sleep") or "", tmp_path / "triton_python_backend_stub")
    server = subprocess.Popen([sys.executable, "-c", SERVER, stub, "1", "50", "started"])
    try:
        watches = {flag: stubs.StubWatch(server.pid, none_unloads=flag) for flag in (False, True)}
        until = time.monotonic() + 30
        while not (dead := {flag: watch.dead() for flag, watch in watches.items()})[True] and time.monotonic() < until:
            time.sleep(0.05)
        assert len(dead[True]) == 1
        assert dead[False] == []
    finally:
        server.kill()
        server.wait()


def test_a_process_is_dead_that_is_a_zombie_at_two_looks_in_a_row(monkeypatch: pytest.MonkeyPatch) -> None:
    """Triton takes note at once of one that it has ended itself."""
    looks = iter([{5}, set(), {5}, {5, 6}, {6}])
    monkeypatch.setattr(stubs, "children", lambda pid: (set(), next(looks)))
    watch = stubs.StubWatch(1)
    assert [watch.dead() for _ in range(5)] == [[], [], [], [5], [6]]


def test_a_process_is_dead_that_was_missing_at_so_many_looks_in_a_row(monkeypatch: pytest.MonkeyPatch) -> None:
    alive = iter([{5, 6}, {6}, {5, 6}, *[{6}] * stubs.GONE_LOOKS])
    monkeypatch.setattr(stubs, "children", lambda pid: (next(alive), set()))
    monkeypatch.setattr(stubs, "listens", lambda pid: True)
    watch = stubs.StubWatch(1, none_unloads=True)
    seen = [watch.dead() for _ in range(3 + stubs.GONE_LOOKS)]
    assert seen == [[]] * (2 + stubs.GONE_LOOKS) + [[5]]


def test_a_server_that_was_killed_has_the_exit_code_that_a_shell_gives_it() -> None:
    killed = "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"
    command = [sys.executable, "-c", WATCHED, killed]
    assert subprocess.run(command, cwd=ROOT, timeout=60).returncode == 128 + signal.SIGKILL


ENDS_SLOWLY = """
import signal, socket, subprocess, sys, time
listener = socket.create_server(("127.0.0.1", 0))
stub = subprocess.Popen([sys.argv[1], "50"])
def end(*_):
    stub.kill()
    stub.wait()
    time.sleep(4)
    sys.exit(0)
signal.signal(signal.SIGTERM, end)
print("ready", flush=True)
while True:
    time.sleep(0.05)
"""
"""Has one model, which it ends some time before itself when it is told to end."""


def test_models_that_a_server_ends_because_it_was_told_to_end_have_not_died(tmp_path: Path) -> None:
    stub = shutil.copy(shutil.which("sleep") or "", tmp_path / "triton_python_backend_stub")
    command = [sys.executable, "-c", WATCHED, ENDS_SLOWLY, str(stub)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        time.sleep(0.5)  # some looks
        process.terminate()
        assert process.stdout.read() == ""
        assert process.wait(60) == 0


def test_a_process_of_any_name_does_not_end_the_watch(tmp_path: Path) -> None:
    odd = shutil.copy(shutil.which("sleep") or "", tmp_path / "odd) R x (y")
    with subprocess.Popen([odd, "50"]) as process:
        try:
            alive, zombies = stubs.children(os.getpid())
            assert process.pid not in alive | zombies
        finally:
            process.kill()


STUBBORN = """
import os, signal, socket, subprocess, sys, time
listener = socket.create_server(("127.0.0.1", 0))
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print(os.getpid(), flush=True)
subprocess.run([sys.argv[1], "1"])
time.sleep(50)
"""


def test_a_server_that_does_not_end_when_a_model_has_died_is_killed(tmp_path: Path) -> None:
    stub = shutil.copy(shutil.which("sleep") or "", tmp_path / "triton_python_backend_stub")
    watched = WATCHED.replace("EVERY_S = 0.2", "EVERY_S, stubs._GRACE_S = 0.1, 0.2")
    assert watched != WATCHED
    command = [sys.executable, "-c", watched, STUBBORN, str(stub)]
    ended = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, timeout=45)
    server, told = ended.stdout.splitlines()
    assert ended.returncode == 1
    assert "the process of a model has died" in told
    assert not Path(f"/proc/{server}").exists()
