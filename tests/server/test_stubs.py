"""The watch over models' processes, against servers that behave as newer ones of Triton do."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from pathlib import Path

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
