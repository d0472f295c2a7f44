from __future__ import annotations

import base64
import json
import os
import signal
import subprocess
import sys
import time
from email.parser import BytesParser
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from densescan.tasks import XRAY
from loadtest import peers, tables
from loadtest.pictures import write_phantoms
from loadtest.server_side import cpu_by_model, family
from loadtest.ways import Target, opened, served_files


class Echo(BaseHTTPRequestHandler):
    """Answers with what was posted, after the encoding of its kind has been taken off."""

    protocol_version = "HTTP/1.1"
    connections: set[int]

    def do_POST(self) -> None:
        type(self).connections.add(self.client_address[1])
        body = self.rfile.read(int(self.headers["Content-Length"]))
        kind = self.headers["Content-Type"]
        if kind == "application/json":
            data = base64.b64decode(json.loads(body)["file"])
        else:
            message = BytesParser().parsebytes(f"Content-Type: {kind}\r\n\r\n".encode() + body)
            (part,) = message.get_payload()
            assert part.get_param("name", header="content-disposition") == "file"
            data = part.get_payload(decode=True)
        self.send_response(200 if data else 503)
        answer = json.dumps([len(data), data[:2].hex()]).encode()
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def echo() -> Any:
    Echo.connections = set()
    server = ThreadingHTTPServer(("127.0.0.1", 0), Echo)
    thread = Thread(target=server.serve_forever)
    thread.start()
    yield f"127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize("way", ["http", "http_json"])
def test_a_posted_file_arrives_whole_over_one_connection(echo: str, way: str, tmp_path: Path) -> None:
    paths = write_phantoms(XRAY, tmp_path, count=2)
    with opened(Target(way, "xray", echo, served_files(paths))) as call:
        answers = [call(number) for number in range(4)]
    assert answers == [[paths[number % 2].stat().st_size, "ffd8"] for number in range(4)]
    assert len(Echo.connections) == 1


def test_a_refusal_is_raised(echo: str, tmp_path: Path) -> None:
    empty = tmp_path / "empty.jpg"
    empty.write_bytes(b"")
    with opened(Target("http", "xray", echo, (str(empty),))) as call, pytest.raises(RuntimeError, match="HTTP 503"):
        call(0)


def test_all_means_those_that_are_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peers, "find_spec", lambda package: package == "flask" or None)
    assert peers.chosen("all") == ["flask"]
    assert peers.chosen("flask,") == ["flask"]
    assert peers.chosen("") == []
    with pytest.raises(ValueError, match=r"litserve needs litserve: .*\[peers\]"):
        peers.chosen("litserve")
    with pytest.raises(ValueError, match="unknown peer 'nginx'"):
        peers.chosen("nginx")


def test_a_peer_that_is_held_computes_nothing_and_goes_on_afterwards() -> None:
    """Nor do the processes that it has started."""
    busy = "while True: pass"
    code = f"import subprocess, sys\nsubprocess.Popen([sys.executable, '-c', {busy!r}])\n{busy}"
    process = subprocess.Popen([sys.executable, "-c", code], start_new_session=True)

    def spent() -> float:
        return sum(cpu_by_model(process.pid).values())

    try:
        deadline = time.monotonic() + 20
        while len(family(process.pid)) < 2:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        with peers.Running("nobody", process.pid).held():
            held = spent()
            time.sleep(0.5)
            assert spent() == pytest.approx(held, abs=0.02)
        while spent() < held + 0.1:
            assert time.monotonic() < deadline
            time.sleep(0.01)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def test_a_peer_takes_with_it_what_it_started_in_sessions_of_their_own() -> None:
    sleep = "import time\ntime.sleep(60)"
    code = (
        f"import subprocess, sys\nsubprocess.Popen([sys.executable, '-c', {sleep!r}], start_new_session=True)\n{sleep}"
    )
    process = subprocess.Popen([sys.executable, "-c", code], start_new_session=True)
    deadline = time.monotonic() + 20
    while len(family(process.pid)) < 2:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    _, child = family(process.pid)
    peers._stop(process)
    while _runs(child):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def _runs(pid: int) -> bool:
    try:
        return "State:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False


def test_every_peer_is_a_program_of_this_package() -> None:
    folder = Path(peers.__file__).parent
    assert all((folder / f"{peer.module}.py").is_file() for peer in peers.PEERS.values())


@pytest.mark.slow
def test_the_originals_way_is_started_pressed_and_stopped(repository_of_tiny_networks: Path, tmp_path: Path) -> None:
    pytest.importorskip("flask")
    pytest.importorskip("keras")
    files = served_files(write_phantoms(XRAY, tmp_path, count=1))
    asked: list[tuple[str, int]] = []

    def press(target: Target, callers: int) -> dict[str, Any]:
        asked.append((target.way, callers))
        if target.way == "http":
            with opened(target) as call:
                probabilities = call(0)
            assert sum(probabilities) == pytest.approx(1, abs=1e-4)
        return {}

    own = {"sdk": Target("sdk_file", "xray", "nobody", files)}
    measured = peers.measure("flask", files, repository_of_tiny_networks, press, own, callers=(1, 4), rounds=1)
    assert asked == [("http", 1), ("sdk_file", 1), ("http", 4), ("sdk_file", 4)]
    assert list(measured["rounds"][0]) == ["1", "4"]


def test_a_peer_is_compared_within_each_turn() -> None:
    """Everything twice as fast in the second round: how many times does not notice."""
    rounds = [
        {
            "16": {
                who: {"per_second": rate * k, "failures": {}}
                for who, rate in (("peer", 10.0), ("sdk", 80.0), ("bytes", 90.0))
            }
        }
        for k in (1, 2)
    ]
    rows = tables.peers({"peers": {"flask": {"how": "as it was", "rounds": rounds}}})
    assert rows.cells == (
        ("flask: as it was", "16", "10.0 (10.0 to 20.0)", "", "0"),
        (tables.OWN["sdk"], "16", "80.0 (80.0 to 160.0)", "8.00 (8.00 to 8.00)", "0"),
        (tables.OWN["bytes"], "16", "90.0 (90.0 to 180.0)", "9.00 (9.00 to 9.00)", "0"),
    )


def test_failures_are_told_of_whom_they_were_and_of_a_peer_that_answered_nothing_there_is_no_ratio() -> None:
    def press(rate: float, **failures: int) -> dict[str, Any]:
        return {"per_second": rate, "failures": failures}

    rounds = [{"16": {"peer": press(0.0, Refused=5, Overloaded=2), "sdk": press(80.0, Overloaded=3)}}]
    cells = tables.peers({"peers": {"flask": {"how": "as it was", "rounds": rounds}}}).cells
    assert [(cell[3], cell[4]) for cell in cells] == [("", "7"), ("inf (inf to inf)", "3")]
