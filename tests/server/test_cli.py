"""``python -m server`` and ``python -m server.demo`` as a user starts them."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from densescan import draw_phantom
from densescan.tasks import MAX_BATCH_SIZE, TASKS
from server import EmbeddedTriton
from server.cli import first_command
from tests.client.quick_models import write_repository

ROOT = Path(__file__).resolve().parents[2]


def start(*words: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", *map(str, words)],
        cwd=ROOT,
        env={**os.environ, "COLUMNS": "160"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process: subprocess.Popen[str], timeout_s: float = 400) -> tuple[int, str, str]:
    try:
        out, err = process.communicate(timeout=timeout_s)
    finally:
        if process.poll() is None:
            process.terminate()
            process.communicate(timeout=30)
    return process.returncode, out, err


def test_help_teaches_by_examples() -> None:
    code, out, _ = finish(start("server", "--help"))
    assert code == 0
    assert "python -m server --profile gpu" in out
    assert "densescan classify xray your.png" in out


@pytest.mark.triton
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_says_where_it_serves_and_stops_cleanly_when_told(tiny_repository: Path, number: signal.Signals) -> None:
    process = start("server", "--model-repository", tiny_repository, *ports())
    assert process.stderr is not None
    lines = []
    for line in process.stderr:
        lines.append(line)
        if "Ctrl-C stops it" in line:
            break
    text = "".join(lines)
    for word in ("gRPC", "127.0.0.1:", "metrics", "tiny_pair", "ready", "Try it:", "Research use only"):
        assert word in text
    process.send_signal(number)
    code, _, err = finish(process)
    assert code == 0
    assert "Stopped." in err


@pytest.mark.parametrize(
    ("files", "variables"),
    [
        ({}, ()),
        ({"tls_cert": "c.pem", "tls_key": "k.pem"}, ("DENSESCAN_CA_CERTIFICATE",)),
        (
            {"tls_cert": "c.pem", "tls_key": "k.pem", "tls_client_ca": "ca.pem"},
            ("DENSESCAN_CLIENT_CERTIFICATE", "DENSESCAN_CLIENT_KEY", "DENSESCAN_CA_CERTIFICATE"),
        ),
    ],
)
def test_the_first_command_names_what_a_server_with_tls_asks_for(
    tiny_repository: Path, files: dict[str, str], variables: tuple[str, ...]
) -> None:
    words = first_command(EmbeddedTriton(tiny_repository, **files)).split()
    assert tuple(word.partition("=")[0] for word in words if "=" in word) == variables


def ports() -> list[str]:
    return [word for name in ("grpc", "http", "metrics") for word in (f"--{name}-port", "0")]


def test_a_taken_port_is_one_clear_message(tiny_repository: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        code, _, err = finish(start("server", "--model-repository", tiny_repository, *ports()[2:], "--grpc-port", port))
    assert code == 1
    assert f"port {port} on 127.0.0.1 cannot be used" in err
    assert "--grpc-port" in err
    assert "Traceback" not in err


def test_a_missing_repository_is_one_clear_message() -> None:
    code, _, err = finish(start("server", "--model-repository", "nowhere"))
    assert code == 1
    assert "there is no model repository at nowhere" in err


def picture_size(path: Path) -> tuple[int, int]:
    with Image.open(path) as picture:
        return picture.size


@pytest.mark.triton
@pytest.mark.slow
def test_the_demo_shows_both_tasks_and_leaves_pictures_to_look_at(tmp_path: Path, model_repository: Path) -> None:
    code, out, err = finish(start("server.demo", "--output", tmp_path, "--model-repository", model_repository))
    assert code == 0, err
    for word in ("chest X-ray", "brain MRI slice", "NORMAL", "meningioma", "confidence", "ms", "mean nothing"):
        assert word in out
    for task in ("xray", "mri"):
        assert picture_size(tmp_path / f"synthetic_{task}_0.png") == (512, 512)
        assert f"explained_{task}.png" in out
        assert min(picture_size(tmp_path / f"explained_{task}.png")) >= 256


@pytest.fixture
def quick_repository(tmp_path: Path, model_repository: Path) -> Path:
    """The decoders and the ensembles that are served, with stand-ins for the networks."""
    root = write_repository(tmp_path / "quick", slow_s=0, max_batch_size=MAX_BATCH_SIZE)
    for name in (name for task in TASKS.values() for name in (task.decoder, task.ensemble)):
        shutil.copytree(model_repository / name, root / name)
    return root


@pytest.mark.triton
def test_the_demo_takes_ones_own_pictures_and_a_bad_one_spoils_only_itself(
    tmp_path: Path, quick_repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw_phantom("xray").save(tmp_path / "mine.jpeg")
    (tmp_path / "bad.png").write_text("no picture")
    words = ("--task", "xray", "--output", tmp_path / "out", "--model-repository", quick_repository)
    monkeypatch.setenv("DENSESCAN_TLS", "1")  # of another server
    code, out, err = finish(start("server.demo", tmp_path / "mine.jpeg", tmp_path / "bad.png", *words))
    assert code == 1, err
    assert str(tmp_path / "mine.jpeg") in out
    assert "bad.png: is no picture" in out
    assert "brain MRI" not in out


def test_ones_own_pictures_need_a_task(tmp_path: Path) -> None:
    code, _, err = finish(start("server.demo", tmp_path / "a.png"))
    assert code == 2
    assert "--task xray or --task mri" in err
