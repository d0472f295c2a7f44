from __future__ import annotations

import inspect
import itertools
import logging
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import numpy.typing as npt
import pytest

import densescan
from densescan import Classification, Client
from densescan._pipeline import AHEAD
from densescan.errors import (
    ClientClosed,
    DeadlineExceeded,
    DensescanError,
    InferenceFailed,
    InvalidImage,
    ModelNotFound,
    Overloaded,
    ServerUnavailable,
)

from .fake_server import FakeTriton, answer, config, refuse

Pixels = npt.NDArray[np.uint8]


@pytest.fixture
def client(fake: FakeTriton) -> Iterator[Client]:
    with Client(fake.url, timeout_s=5) as client:
        yield client


@contextmanager
def takes_at_most(seconds: float) -> Iterator[None]:
    start = time.monotonic()
    yield
    assert time.monotonic() - start < seconds


# What a request says and an answer becomes


def test_a_picture_is_sent_as_the_models_input_and_comes_back_classified(client: Client, fake: FakeTriton) -> None:
    image = np.random.default_rng(0).integers(0, 256, (224, 224), np.uint8)
    result = client.classify_xray(image, model_version="1")
    (request,) = fake.asked("ModelInfer")
    assert (request.model_name, request.model_version) == ("xray_densenet121", "1")
    assert [request.inputs[0].name, request.inputs[0].datatype] == ["image", "UINT8"]
    assert request.raw_input_contents[0] == np.repeat(image[..., None], 3, axis=2).tobytes()
    assert (result.label, result.task, result.model_version) == ("PNEUMONIA", "xray", "1")
    assert result.confidence == pytest.approx(0.8)
    assert result.elapsed_ms is not None
    assert result.elapsed_ms > 0


def test_each_task_has_its_method(client: Client, pixels: Pixels) -> None:
    assert client.classify_mri(pixels).label == "pituitary"
    assert client.classify("mri", pixels).label == client.classify_mri(pixels).label
    assert client.classify("xray", pixels).label == client.classify_xray(pixels).label


def test_the_operating_point_is_read_once_per_version(client: Client, fake: FakeTriton, pixels: Pixels) -> None:
    fake.on_config = lambda request, context: config(operating_point="0.9" if request.version == "1" else "0.7")
    results = [client.classify_xray(pixels) for _ in range(3)]
    assert [(r.threshold, r.label) for r in results] == [(0.9, "NORMAL")] * 3
    assert len(fake.asked("ModelConfig")) == 1
    fake.on_infer = lambda request, context: answer([0.2, 0.8], version="2")  # rolled out meanwhile
    result = client.classify_xray(pixels)
    assert (result.threshold, result.label, result.model_version) == (0.7, "PNEUMONIA", "2")


def test_without_an_operating_point_in_the_config_it_is_one_half(
    client: Client, fake: FakeTriton, pixels: Pixels
) -> None:
    fake.on_config = lambda request, context: config()
    assert client.classify_xray(pixels).threshold == 0.5


def test_a_failed_read_of_the_operating_point_is_an_error_and_not_one_half(
    client: Client, fake: FakeTriton, pixels: Pixels
) -> None:
    fake.on_config = refuse(grpc.StatusCode.INTERNAL, "broken")
    with pytest.raises(InferenceFailed, match="broken"):
        client.classify_xray(pixels)
    fake.on_config = lambda request, context: config(operating_point="0.4")
    assert client.classify_xray(pixels).threshold == 0.4


def test_a_threshold_of_ones_own_is_used_without_asking_the_server(
    client: Client, fake: FakeTriton, pixels: Pixels
) -> None:
    result = client.classify_xray(pixels, threshold=0.95)
    assert (result.label, result.threshold) == ("NORMAL", 0.95)
    assert fake.asked("ModelConfig") == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"task": "ct"}, "unknown task"),
        ({"task": "xray", "threshold": 1.5}, "threshold"),
        ({"task": "mri", "threshold": 0.5}, "threshold"),
        ({"task": "xray", "timeout_s": 0}, "timeout_s"),
        ({"task": "xray", "model_version": "new"}, "model_version"),
    ],
)
def test_wrong_arguments_are_refused_before_anything_is_sent(
    client: Client, fake: FakeTriton, pixels: Pixels, arguments: dict[str, Any], message: str
) -> None:
    task = arguments.pop("task")
    with pytest.raises(ValueError, match=message):
        client.classify(task, pixels, **arguments)
    with pytest.raises(ValueError, match=message):
        client.classify_many(task, [pixels], **arguments)
    assert fake.requests == []


def test_a_bad_picture_is_refused_before_anything_is_sent(client: Client, fake: FakeTriton, tmp_path: Path) -> None:
    with pytest.raises(InvalidImage, match="no such file"):
        client.classify_xray(tmp_path / "missing.png")
    assert fake.requests == []


# Many pictures


def test_many_come_back_in_order_with_the_error_in_the_bad_ones_place(
    client: Client, film_path: Path, tmp_path: Path
) -> None:
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"nothing")
    paths = [film_path, film_path, bad, film_path]
    results = list(client.classify_many("xray", paths, in_flight=2))
    assert [type(result) for result in results] == [Classification, Classification, InvalidImage, Classification]
    assert [getattr(result, "source") for result in results] == list(map(str, paths))  # noqa: B009


def test_a_refused_request_spoils_only_its_own_picture(client: Client, fake: FakeTriton, pixels: Pixels) -> None:
    turns = iter(range(100))

    def second_is_refused(request: Any, context: Any) -> Any:
        if next(turns) == 1:
            context.abort(grpc.StatusCode.UNAVAILABLE, "Exceeds maximum queue size")
        return answer([0.2, 0.8])

    fake.on_infer = second_is_refused
    results = list(client.classify_many("xray", [pixels] * 4, in_flight=1))
    assert [type(result) for result in results] == [Classification, Overloaded, Classification, Classification]


def test_pictures_are_in_flight_together(client: Client, fake: FakeTriton, pixels: Pixels) -> None:
    together = threading.Barrier(4, timeout=5)  # answers nothing until four requests are there

    def wait_for_others(request: Any, context: Any) -> Any:
        together.wait()
        return answer([0.2, 0.8])

    fake.on_infer = wait_for_others
    results = list(client.classify_many("xray", [pixels] * 8, in_flight=4))
    assert all(isinstance(result, Classification) for result in results)


def test_many_images_are_read_only_as_they_are_needed(client: Client, pixels: Pixels) -> None:
    read = 0

    def endless() -> Iterator[Pixels]:
        nonlocal read
        while True:
            read += 1
            yield pixels

    results = client.classify_many("mri", endless(), in_flight=3)
    for _ in range(5):
        next(results)
    assert read <= 5 + 3 * AHEAD


def test_closing_the_client_ends_a_run_of_many(client: Client, pixels: Pixels) -> None:
    results = client.classify_many("mri", (pixels for _ in range(100)), in_flight=1)
    next(results)
    client.close()
    with pytest.raises(ClientClosed):
        list(results)


# Faults


@pytest.mark.parametrize(
    ("code", "details", "expected"),
    [
        (grpc.StatusCode.UNAVAILABLE, "Exceeds maximum queue size", Overloaded),
        (grpc.StatusCode.UNAVAILABLE, "Request timeout expired", Overloaded),
        (grpc.StatusCode.UNAVAILABLE, "Server exiting", ServerUnavailable),
        (grpc.StatusCode.NOT_FOUND, "Request for unknown model: 'xray_densenet121' is not found", ModelNotFound),
        (grpc.StatusCode.INVALID_ARGUMENT, "unexpected shape", InferenceFailed),
        (grpc.StatusCode.INTERNAL, "out of memory", InferenceFailed),
    ],
)
def test_a_servers_refusal_is_a_typed_error_with_its_cause(
    client: Client, fake: FakeTriton, pixels: Pixels, code: Any, details: str, expected: type[DensescanError]
) -> None:
    fake.on_infer = refuse(code, details)
    with pytest.raises(expected, match=details) as caught:
        client.classify_xray(pixels)
    assert fake.url in str(caught.value)
    assert "xray_densenet121" in str(caught.value)
    assert caught.value.__cause__ is not None


def test_an_answer_that_is_no_probability_is_a_failed_inference(
    client: Client, fake: FakeTriton, pixels: Pixels
) -> None:
    fake.on_infer = lambda request, context: answer([float("nan"), 1.0])
    with pytest.raises(InferenceFailed, match="no probabilities"):
        client.classify_xray(pixels)


def test_a_slow_server_is_a_deadline_exceeded_in_time(client: Client, fake: FakeTriton, pixels: Pixels) -> None:
    client.status(timeout_s=20)  # connecting has its own time
    fake.on_infer = fake.hang
    with takes_at_most(2), pytest.raises(DeadlineExceeded, match=r"within 0.3 s"):
        client.classify_xray(pixels, timeout_s=0.3)


def test_a_refused_connection_is_an_unavailable_server_at_once(pixels: Pixels) -> None:
    with socket.socket() as bound:  # bound, but not listening
        bound.bind(("127.0.0.1", 0))
        with Client(f"127.0.0.1:{bound.getsockname()[1]}", timeout_s=30) as client:
            with takes_at_most(5), pytest.raises(ServerUnavailable, match="DENSESCAN_URL"):
                client.classify_xray(pixels)
            assert not client.is_ready()


def test_an_address_that_swallows_everything_is_an_unavailable_server_within_the_deadline(pixels: Pixels) -> None:
    with socket.socket() as silent:  # the kernel accepts the connection, nobody ever answers on it
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        with Client(f"127.0.0.1:{silent.getsockname()[1]}", timeout_s=0.5) as client:
            with takes_at_most(3), pytest.raises(ServerUnavailable, match=r"nobody answers at .* within 0.5 s"):
                client.classify_xray(pixels)
            with takes_at_most(3):
                assert not client.is_ready()


def test_a_name_that_does_not_resolve_is_an_unavailable_server(pixels: Pixels) -> None:
    with Client("no-such-host.invalid:8001", timeout_s=5) as client, pytest.raises(ServerUnavailable):
        client.classify_xray(pixels)


def test_a_server_that_dies_under_a_request_is_unavailable(client: Client, fake: FakeTriton, pixels: Pixels) -> None:
    client.classify_mri(pixels)
    arrived = threading.Event()

    def hang(request: Any, context: Any) -> Any:
        arrived.set()
        return fake.hang(request, context)

    fake.on_infer = hang
    with ThreadPoolExecutor(1) as pool:
        request = pool.submit(client.classify_xray, pixels)
        assert arrived.wait(5)
        fake.stop()
        with takes_at_most(5), pytest.raises(ServerUnavailable):
            request.result()


def test_a_client_finds_a_server_that_comes_back(fake: FakeTriton, pixels: Pixels) -> None:
    with Client(fake.url) as client:
        client.classify_mri(pixels)
        fake.stop()
        with pytest.raises(ServerUnavailable):
            client.classify_mri(pixels)
        again = FakeTriton(port=int(fake.url.rpartition(":")[2]))
        try:
            client.wait_until_ready(10)
            assert client.classify_mri(pixels).label == "pituitary"
        finally:
            again.stop()


# Life of a client


def test_a_closed_client_says_so(client: Client, pixels: Pixels) -> None:
    client.classify_mri(pixels)
    client.close()
    client.close()
    for use in (lambda: client.classify_mri(pixels), client.status, client.is_ready):
        with pytest.raises(ClientClosed, match="closed"):
            use()
    assert "closed" in repr(client)


def test_closing_a_client_that_was_never_used_is_fine() -> None:
    Client("localhost:1").close()


def test_a_request_under_way_when_the_client_closes_says_so(client: Client, fake: FakeTriton, pixels: Pixels) -> None:
    arrived = threading.Event()

    def hang(request: Any, context: Any) -> Any:
        arrived.set()
        return fake.hang(request, context)

    fake.on_infer = hang
    with ThreadPoolExecutor(1) as pool:
        request = pool.submit(client.classify_xray, pixels)
        assert arrived.wait(5)
        client.close()
        with takes_at_most(5), pytest.raises(ClientClosed):
            request.result()


def test_one_client_serves_many_threads(client: Client, pixels: Pixels) -> None:
    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(lambda task: client.classify(task, pixels), ["xray", "mri"] * 16))
    assert [result.label for result in results] == ["PNEUMONIA", "pituitary"] * 16


def test_the_log_names_no_file(client: Client, film_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        client.classify_xray(film_path)
    assert "xray_densenet121" in caplog.text
    assert film_path.name not in caplog.text


# Readiness and status


def test_ready_follows_the_server(client: Client, fake: FakeTriton) -> None:
    assert client.is_ready()
    fake.ready = False
    assert not client.is_ready()
    with takes_at_most(3), pytest.raises(ServerUnavailable, match=r"not ready within 0.3 s"):
        client.wait_until_ready(0.3)


def test_waiting_in_vain_tells_what_came_in_between() -> None:
    with Client("127.0.0.1:9") as client, pytest.raises(ServerUnavailable, match="not ready within") as caught:
        client.wait_until_ready(2)
    assert "nothing listens there" in str(caught.value.__cause__)


def test_a_last_attempt_that_is_cut_short_does_not_hide_what_came_before(monkeypatch: pytest.MonkeyPatch) -> None:
    first = ServerUnavailable("nothing listens there")
    errors = iter([first])

    def ask(deadline: Any) -> bool:
        error = next(errors, None)
        if error is None:
            time.sleep(deadline.remaining_s())
        raise error or ServerUnavailable("nobody answers")

    with Client("127.0.0.1:9") as client:
        monkeypatch.setattr(client, "_ask_ready", ask)
        with pytest.raises(ServerUnavailable, match="not ready within") as caught:
            client.wait_until_ready(0.5)
    assert caught.value.__cause__ is first


def test_waiting_ends_when_the_server_gets_ready(client: Client, fake: FakeTriton) -> None:
    fake.ready = False
    timer = threading.Timer(0.3, lambda: setattr(fake, "ready", True))
    timer.start()
    with takes_at_most(5):
        client.wait_until_ready(10)


def test_status_names_server_and_models(client: Client, fake: FakeTriton) -> None:
    fake.add_model("xray_densenet121", "1", "READY")
    fake.add_model("mri_decoder", "", "UNAVAILABLE", "no such file")
    status = client.status()
    assert (status.url, status.name, status.version, status.live, status.ready) == (
        fake.url,
        "triton",
        "2.99.0",
        True,
        True,
    )
    assert [(model.name, model.ready) for model in status.models] == [
        ("mri_decoder", False),
        ("xray_densenet121", True),
    ]
    assert status.to_dict()["url"] == fake.url


# Module functions


def test_module_functions_call_the_server_of_the_variable(
    fake: FakeTriton, pixels: Pixels, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DENSESCAN_URL", fake.url)
    assert densescan.classify_xray(pixels, threshold=0.9).label == "NORMAL"
    assert densescan.classify_mri(pixels).label == "pituitary"
    monkeypatch.setenv("DENSESCAN_URL", "127.0.0.1:1")
    with pytest.raises(ServerUnavailable, match=r"127.0.0.1:1"):
        densescan.classify_mri(pixels)


@pytest.mark.parametrize("name", ["classify_xray", "classify_mri"])
def test_module_functions_take_what_the_methods_take(name: str) -> None:
    function = inspect.signature(getattr(densescan, name))
    method = inspect.signature(getattr(Client, name))
    assert list(function.parameters.values()) == list(method.parameters.values())[1:]
    assert function.return_annotation == method.return_annotation


# What goes along


def heard(fake: FakeTriton) -> list[dict[str, str]]:
    """The metadata of each request for a classification, from now on."""
    seen: list[dict[str, str]] = []

    def handler(request: Any, context: Any) -> Any:
        seen.append(dict(context.invocation_metadata()))
        return answer([0.2, 0.8])

    fake.on_infer = handler
    return seen


def test_each_call_may_have_metadata_of_its_own(fake: FakeTriton, pixels: Pixels) -> None:
    seen = heard(fake)
    with Client(fake.url, metadata={"authorization": "Bearer ours", "tenant": "a"}) as client:
        client.classify_xray(pixels)
        client.classify_xray(pixels, metadata={"Authorization": "Bearer theirs"})
        list(client.classify_many("xray", [pixels] * 2, metadata={"authorization": "Bearer many"}))
        client.classify_xray(pixels)
    assert [each["authorization"] for each in seen] == [
        "Bearer ours",
        "Bearer theirs",
        "Bearer many",
        "Bearer many",
        "Bearer ours",
    ]
    assert {each["tenant"] for each in seen} == {"a"}


def test_the_trace_of_the_caller_goes_along_with_each_of_many(fake: FakeTriton, pixels: Pixels) -> None:
    trace = pytest.importorskip("opentelemetry.trace")
    seen = heard(fake)
    context = trace.SpanContext(0xABC, 0xDEF, is_remote=False, trace_flags=trace.TraceFlags(1))
    with Client(fake.url) as client, trace.use_span(trace.NonRecordingSpan(context)):
        list(client.classify_many("xray", [pixels] * 3))
    assert {each.get("traceparent") for each in seen} == {f"00-{0xABC:032x}-{0xDEF:016x}-01"}


def test_no_thread_and_no_connection_is_left_behind(fake: FakeTriton, pixels: Pixels) -> None:
    def ours() -> list[str]:
        return [thread.name for thread in threading.enumerate() if thread.name.startswith("densescan")]

    with Client(fake.url) as client:
        assert len(list(client.classify_many("xray", [pixels] * 6))) == 6
        for _ in client.classify_many("xray", itertools.repeat(pixels)):
            break
        channel = client._connection._channel
    end = time.monotonic() + 5
    while ours() and time.monotonic() < end:
        time.sleep(0.01)
    assert ours() == []
    with pytest.raises(ValueError, match="closed channel"):
        channel.unary_unary("/inference.GRPCInferenceService/ServerLive")(b"")


def test_a_name_that_resolves_to_servers_is_an_address(fake: FakeTriton, pixels: Pixels) -> None:
    with Client(f"dns:///localhost:{fake.url.rpartition(':')[2]}") as client:
        assert client.classify_xray(pixels).label == "PNEUMONIA"


def test_what_is_sent_again_is_sent_after_a_pause(fake: FakeTriton, pixels: Pixels) -> None:
    times: list[float] = []

    def fails_twice(request: Any, context: Any) -> Any:
        times.append(time.monotonic())
        if len(times) < 3:
            context.abort(grpc.StatusCode.UNAVAILABLE, "Server exiting")
        return answer([0.2, 0.8])

    fake.on_infer = fails_twice
    with Client(fake.url) as client:
        assert client.classify_xray(pixels).label == "PNEUMONIA"
    first, second = np.diff(times)
    assert first >= 0.05
    assert second >= 0.1


def test_the_time_limit_of_the_client_holds_unless_the_call_has_its_own(fake: FakeTriton, pixels: Pixels) -> None:
    with Client(fake.url, timeout_s=0.3) as client:
        client.status(timeout_s=20)  # connecting has its own time
        fake.on_infer = fake.hang
        for limit, options in ((0.3, {}), (0.6, {"timeout_s": 0.6})):
            start = time.monotonic()
            with takes_at_most(limit + 3), pytest.raises(DeadlineExceeded, match=f"within {limit:g} s"):
                client.classify_xray(pixels, **options)
            assert time.monotonic() - start > limit - 0.05
