"""A network tells its decoder what it takes, and answers whatever becomes of that."""

from __future__ import annotations

import errno
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from densescan.serving import backlog
from densescan.serving.backlog import Backlog
from server import EmbeddedTriton

from . import fake_pb_utils as pb_utils
from . import tiny
from .conftest import eventually
from .fake_pb_utils import Request

FLOW = {"parameters": {"FLOW_FROM": {"string_value": "decoder"}}}
MOST = 8


@pytest.fixture
def memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "memory"
    folder.mkdir()
    monkeypatch.setattr(backlog, "MEMORY", folder)
    monkeypatch.setattr(backlog, "IN_MOTION_S", 1000.0)  # however slow this machine is
    return folder


def ask(backend: Any, *sizes: int) -> list[Any]:
    """The answers to requests of so many pictures each, that come together."""
    return backend.execute([Request({"image": tiny.pictures(size)}) for size in sizes])


def room(decoder: Backlog) -> int:
    return next(count for count in range(1000) if not decoder.add(1, MOST))


def test_the_decoder_gets_room_for_what_a_full_batch_takes_and_all_of_it_after_another(
    initialized: Any, memory: Path
) -> None:
    network = initialized(**FLOW)
    decoder = Backlog("decoder", create=False)
    ask(network, 4)
    assert room(decoder) == MOST
    ask(network, 1, 2, 1)
    assert room(decoder) == 4
    ask(network, 1, 2)
    assert room(decoder) == MOST
    decoder.close()
    network.finalize()


def test_a_request_that_cannot_be_read_takes_nothing(initialized: Any, memory: Path) -> None:
    network = initialized(**FLOW)
    decoder = Backlog("decoder", create=False)
    ask(network, 4)
    room(decoder)
    assert ask(network, 5)[0].error is not None
    assert room(decoder) == 0
    decoder.close()


def test_a_model_whose_config_names_no_decoder_counts_nothing(initialized: Any, memory: Path) -> None:
    ask(initialized(), 1)
    assert list(memory.iterdir()) == []


def test_without_the_package_nothing_is_counted_and_everything_answered(
    initialized: Any, memory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "densescan.serving.backlog", None)
    network = initialized(**FLOW)
    assert ask(network, 1)[0].error is None
    (said,) = pb_utils.Logger.warnings
    assert "decoder is not told of batches" in said


def test_a_count_that_fails_is_said_once_and_costs_no_answer(
    initialized: Any, memory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    network = initialized(**FLOW)
    monkeypatch.setattr(os, "pwrite", fails)
    for _ in range(2):
        assert ask(network, 1)[0].error is None
    (said,) = pb_utils.Logger.warnings
    assert "No space left" in said
    network.finalize()


@pytest.mark.triton
def test_the_count_of_a_server_goes_with_it(tmp_path: Path) -> None:
    root = tiny.write_repository(tmp_path / "models")
    config = root / "tiny/configs/cpu.pbtxt"
    config.write_text(
        config.read_text() + 'parameters { key: "FLOW_FROM" value { string_value: "decoder" } }\n', encoding="utf-8"
    )
    with EmbeddedTriton(root, profile="cpu", models=["tiny"], exit_timeout_s=2) as triton:
        count = backlog.backlog_file("decoder", triton.pid)
        assert eventually(count.exists)
    assert not count.exists()
