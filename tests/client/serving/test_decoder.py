"""What the decoder's process takes of the machine; what it decodes, test_parity.py compares."""

from __future__ import annotations

import importlib.util
import io
import json
import os
import subprocess
import sys
import threading
import time
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import densescan.serving
from densescan.preprocessing import preprocess
from densescan.serving.backlog import Backlog
from densescan.tasks import ENCODED_NAME, INPUT_NAME
from tests.server import fake_pb_utils
from tests.server.conftest import eventually

PROGRAM = Path(densescan.serving.__file__).with_name("decoder.py")
ROOT = Path(__file__).resolve().parents[3]
ARGUMENTS = {"model_config": json.dumps({"name": "xray_decoder", "max_batch_size": 16})}


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch) -> types.ModuleType:
    """The decoder's program, on a machine of 64 cores."""
    monkeypatch.setitem(sys.modules, "triton_python_backend_utils", fake_pb_utils)
    monkeypatch.setattr(fake_pb_utils, "Logger", fake_pb_utils.Logger())
    monkeypatch.setattr(sys, "dont_write_bytecode", True)  # the repository may be signed
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(64)))
    spec = importlib.util.spec_from_file_location("densescan.serving.decoder", PROGRAM)
    assert spec is not None
    assert spec.loader is not None
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


@pytest.fixture
def decoder(module: types.ModuleType) -> Iterator[Any]:
    model = module.TritonPythonModel()
    model.initialize(ARGUMENTS)
    yield model
    model.finalize()


def picture(width: int, height: int, kind: str = "PNG") -> bytes:
    """A file of a picture that is brighter to the right."""
    stream = io.BytesIO()
    row = np.linspace(0, 255, width).astype(np.uint8)
    Image.fromarray(np.broadcast_to(row, (height, width))).save(stream, kind)
    return stream.getvalue()


def ask(decoder: Any, *files: bytes) -> list[Any]:
    """The answers to requests of a file each, that come together."""
    return decoder.execute([fake_pb_utils.Request({ENCODED_NAME: np.array([[file]], object)}) for file in files])


class Watched:
    """Stands in for `preprocess`, and sees how many files and pixels are decoded at a time."""

    def __init__(self, sizes: dict[bytes, int]) -> None:
        self.sizes = sizes
        self.now: list[int] = []
        self.most_pixels = self.most_files = 0
        self.lock = threading.Lock()
        self.five = threading.Event()

    def __call__(self, file: bytes) -> np.ndarray:
        with self.lock:
            self.now.append(self.sizes[file])
            self.most_pixels = max(self.most_pixels, sum(self.now))
            self.most_files = max(self.most_files, len(self.now))
            if len(self.now) == 5:
                self.five.set()
        self.five.wait(20)
        time.sleep(0.2)  # would others come in, they did now
        with self.lock:
            self.now.remove(self.sizes[file])
        return np.zeros((224, 224, 3), np.uint8)


def test_no_more_pixels_are_decoded_at_a_time_than_the_largest_picture_has(
    module: types.ModuleType, decoder: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many cores the host has: a few files of a megabyte would take gigabytes otherwise."""
    large, film, rare = picture(7000, 7000), picture(3000, 3000, "JPEG"), picture(100, 100, "WEBP")
    watched = Watched({large: 49_000_000, film: 9_000_000, rare: module.AT_ONCE, b"no picture": module.AT_ONCE})
    monkeypatch.setattr(module, "preprocess", watched)
    answers = ask(decoder, *[film] * 6)
    assert watched.most_files == 5
    answers += ask(decoder, large, *[film] * 6, rare, large, b"no picture", large)
    assert all(answer[INPUT_NAME].shape == (1, 224, 224, 3) for answer in answers)
    assert watched.most_files == 5
    assert watched.most_pixels <= module.AT_ONCE == 50_000_000


def test_small_pictures_do_not_overtake_a_large_one_for_ever(module: types.ModuleType) -> None:
    budget, order = module.Pixels(10), []

    def use(name: str, count: int) -> threading.Thread:
        def run() -> None:
            with budget.taken(count):
                order.append(name)

        thread = threading.Thread(target=run)
        thread.start()
        return thread

    with budget.taken(1):
        threads = [use("large", 10)]
        assert eventually(budget._turn.locked)
        threads.append(use("small", 1))
        time.sleep(0.1)
        assert order == []
    for thread in threads:
        thread.join(20)
    assert order == ["large", "small"]


def test_memory_is_given_back_and_not_kept_by_each_thread() -> None:
    """In a process of its own: the most that it has held, in MiB, above what it began with."""
    code = """if True:
        import importlib.util, io, os, sys
        import numpy as np
        from PIL import Image
        from tests.server import fake_pb_utils
        def held():
            return max(int(line.split()[1]) for line in open("/proc/self/status") if "VmHWM" in line) // 1024
        os.sched_getaffinity = lambda _: set(range(6))
        sys.modules["triton_python_backend_utils"] = fake_pb_utils
        spec = importlib.util.spec_from_file_location("densescan.serving.decoder", sys.argv[1])
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        module.AT_ONCE = 12_000_000
        decoder = module.TritonPythonModel()
        decoder.initialize({"model_config": '{"name": "xray_decoder", "max_batch_size": 16}'})
        row = np.linspace(0, 255, 4000).astype(np.uint8)
        stream = io.BytesIO()
        Image.fromarray(np.broadcast_to(row, (3000, 4000))).convert("RGBA").save(stream, "PNG", compress_level=1)
        request = fake_pb_utils.Request({"encoded_image": np.array([[stream.getvalue()]], object)})
        began = held()
        assert all(answer.error is None for answer in decoder.execute([request] * 6))
        print(held() - began)
    """
    command = [sys.executable, "-B", "-c", code, str(PROGRAM)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 2 * 10 * 12


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "BMP", "GIF", "JPEG2000", "PPM"])
def test_a_picture_counts_by_its_header(module: types.ModuleType, kind: str) -> None:
    assert module.pixels(picture(300, 200, kind)) == 60_000


def test_ordinary_pictures_are_decoded_all_at_once(
    module: types.ModuleType, decoder: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    together = threading.Barrier(16, timeout=20)
    monkeypatch.setattr(module, "preprocess", lambda file: (together.wait(), preprocess(file))[1])
    answers = ask(decoder, *[picture(1800, 1500, "JPEG")] * 16)
    assert [answer.error for answer in answers] == [None] * 16


def test_a_bad_file_spoils_the_request_that_it_came_with_alone(decoder: Any) -> None:
    good = picture(300, 200)
    before, bad, after = ask(decoder, good, good[:-100], good)
    np.testing.assert_array_equal(before[INPUT_NAME][0], preprocess(good))
    np.testing.assert_array_equal(after[INPUT_NAME][0], preprocess(good))
    assert bad.error.code == fake_pb_utils.TritonError.INVALID_ARG
    assert "truncated" in bad.error.text


def test_what_is_no_fault_of_the_pictures_is_raised_and_so_counted_as_a_failure(
    module: types.ModuleType, decoder: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = picture(300, 200)

    def broken(file: bytes) -> Any:
        if file == good:
            raise MemoryError("no room")
        return preprocess(file)

    monkeypatch.setattr(module, "preprocess", broken)
    with pytest.raises(fake_pb_utils.TritonModelException, match="MemoryError: no room"):
        ask(decoder, good, good)
    fault, bad = ask(decoder, good, b"no picture")
    assert fault.error.code == fake_pb_utils.TritonError.INTERNAL
    assert bad.error.code == fake_pb_utils.TritonError.INVALID_ARG
    (bad,) = ask(decoder, b"no picture")
    assert bad.error.code == fake_pb_utils.TritonError.INVALID_ARG


@pytest.fixture
def network(memory: Path) -> Iterator[Backlog]:
    """What a network counts, of a server whose decoder is this process."""
    backlog = Backlog("xray_decoder", create=True)
    yield backlog
    backlog.close()


def test_pictures_beyond_two_batches_wait_undecoded_until_the_network_takes_some(
    module: types.ModuleType, decoder: Any, network: Backlog, monkeypatch: pytest.MonkeyPatch
) -> None:
    small, waits = picture(40, 40), threading.Event()
    monkeypatch.setattr(module.time, "sleep", lambda _: waits.set())
    network.take(1, full=True)
    for _ in range(2):
        ask(decoder, *[small] * 16)
    assert not waits.is_set()
    thread = threading.Thread(target=ask, args=(decoder, small))
    thread.start()
    assert waits.wait(20)
    assert thread.is_alive()
    network.take(16, full=True)
    thread.join(20)
    assert not thread.is_alive()


def test_files_that_cannot_be_decoded_do_not_keep_others_waiting(
    module: types.ModuleType, decoder: Any, network: Backlog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module.time, "sleep", lambda _: pytest.fail("it waits"))
    network.take(1, full=True)
    for _ in range(3):
        answers = ask(decoder, *[b"no picture"] * 16)
        assert all(answer.error is not None for answer in answers)
    assert network.add(1, 1)


def test_where_no_network_counts_nothing_waits(decoder: Any, memory: Path) -> None:
    for _ in range(5):
        answers = ask(decoder, *[picture(40, 40)] * 16)
        assert [answer.error for answer in answers] == [None] * 16
    assert list(memory.iterdir()) == []


def test_a_network_that_is_loaded_later_is_found(module: types.ModuleType, decoder: Any, memory: Path) -> None:
    ask(decoder, picture(40, 40))
    backlog = Backlog("xray_decoder", create=True)
    backlog.take(1, full=True)
    decoder._flow._look_at = 0.0  # a second later
    ask(decoder, *[picture(40, 40)] * 40)
    assert not backlog.add(1, 40)
    backlog.close()


def test_a_count_that_fails_is_said_once_and_costs_no_answer(
    decoder: Any, network: Backlog, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    ask(decoder, picture(40, 40))
    monkeypatch.setattr(os, "pwrite", full)
    for _ in range(2):
        (answer,) = ask(decoder, picture(40, 40))
        assert answer.error is None
    (said,) = fake_pb_utils.Logger.warnings
    assert "No space left" in said


def test_a_picture_above_the_limit_is_refused_and_never_waited_for(module: types.ModuleType, decoder: Any) -> None:
    """More pixels than there are would never be free, and all that come after would wait as well."""
    stream = io.BytesIO()
    Image.new("1", (10_000, 5_001)).save(stream, "PNG")
    assert module.pixels(stream.getvalue()) == module.AT_ONCE < 10_000 * 5_001
    answered: list[Any] = []
    thread = threading.Thread(target=lambda: answered.extend(ask(decoder, stream.getvalue(), picture(40, 40))))
    thread.daemon = True
    thread.start()
    thread.join(20)
    bad, good = answered
    assert "limit" in bad.error.text
    assert good.error is None


def several(decoder: Any, *files: bytes) -> Any:
    """The answer to one request of several files."""
    (answer,) = decoder.execute([fake_pb_utils.Request({ENCODED_NAME: np.array([[file] for file in files], object)})])
    return answer


def test_of_several_files_in_a_request_the_bad_one_is_named_by_its_place(decoder: Any) -> None:
    good = picture(300, 200)
    whole = several(decoder, good, good)
    np.testing.assert_array_equal(whole[INPUT_NAME], np.stack([preprocess(good)] * 2))
    assert several(decoder, good, b"no picture", good).error.text.startswith("image 1 of 3: ")
    assert "image" not in several(decoder, b"no picture").error.text.split(":")[0]


def test_a_request_that_is_refused_keeps_room_for_none_of_its_files(decoder: Any, network: Backlog) -> None:
    """The network sees none of them, also not the good ones."""
    network.take(1, full=True)
    assert several(decoder, picture(40, 40), b"no picture", picture(40, 40)).error is not None
    assert network.add(1, 1)


def test_a_count_that_is_not_there_is_looked_for_every_second(
    module: types.ModuleType, memory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now, looked = [100.0], []
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])

    def missing(*_: object, **__: object) -> None:
        looked.append(now[0])
        raise FileNotFoundError

    monkeypatch.setattr(module, "Backlog", missing)
    flow = module.Flow("xray_decoder", 32)
    for _ in range(25):
        flow.wait(1)
        now[0] += 0.125
    assert looked == [100.0, 101.0, 102.0, 103.0]
