"""Ways to ask for a classification: each makes one call, from a picture to its probabilities, or raises."""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import numpy as np
from tritonclient.grpc import service_pb2

from densescan import Client
from densescan._faults import Call as FaultCall
from densescan._faults import translate
from densescan.preprocessing import preprocess
from densescan.tasks import CLASS_INDEX_NAME, ENCODED_NAME, IMAGE_SHAPE, INPUT_NAME, PREDICTED, Task, get_task

from .connection import Connection

Call = Callable[[int], object]
"""Asks about the picture of that number, going round, and returns when the answer is there."""

_BOUNDARY = "densescan-form-boundary"
_MOST_WAITING = 400  # more than a model's queue holds and its instances have in hand
_INFER = "/inference.GRPCInferenceService/ModelInfer"


@dataclass(frozen=True)
class Target:
    """Whom to ask, about what, and how.

    Attributes:
        way: One of `WAYS`.
        task: Name of the task.
        url: ``host:port`` of the server.
        files: Paths of the pictures.
        timeout_s: Longest to wait for an answer, in seconds.
    """

    way: str
    task: str
    url: str
    files: tuple[str, ...]
    timeout_s: float = 30.0


class Prepared:
    """Requests that were built and serialised before the measurement, and answers that nobody unpacks.

    What is left is the cost of gRPC itself, in the way of Triton's own perf_analyzer, so that what is
    measured is the server. Also for load that is sent by the clock: `start` does not wait.
    """

    def __init__(self, url: str, requests: Sequence[bytes], timeout_s: float) -> None:
        connection = Connection(url)
        self._channel = connection.channel()
        self._metadata = connection.metadata
        # Neither function given: bytes go out and come in as they are.
        self._infer = self._channel.unary_unary(_INFER)
        self._requests = requests
        self._timeout_s = timeout_s

    def __call__(self, number: int) -> object:
        """Send a request, and wait for its answer."""
        request = self._requests[number % len(self._requests)]
        return self._infer(request, timeout=self._timeout_s, metadata=self._metadata)

    def start(self, number: int, done: Callable[[BaseException | None], None]) -> None:
        """Send a request; `done` is called in another thread with what went wrong, or None."""
        request = self._requests[number % len(self._requests)]
        future = self._infer.future(request, timeout=self._timeout_s, metadata=self._metadata)
        future.add_done_callback(lambda answer: done(answer.exception()))

    def close(self) -> None:
        """Close the connection."""
        self._channel.close()


def opened(target: Target) -> contextlib.AbstractContextManager[Any]:
    """The way of a target, connected; calls may come from any number of threads."""
    return WAYS[target.way](target)


@contextlib.contextmanager
def _prepared(target: Target) -> Iterator[Prepared]:
    task = get_task(target.task)
    requests = [image_request(task.classifier, preprocess(file)) for file in target.files]
    with contextlib.closing(Prepared(target.url, requests, target.timeout_s)) as call:
        yield call


@contextlib.contextmanager
def _encoded_ready(target: Target) -> Iterator[Prepared]:
    task = get_task(target.task)
    requests = [encoded_request(task, Path(file).read_bytes()).SerializeToString() for file in target.files]
    with contextlib.closing(Prepared(target.url, requests, target.timeout_s)) as call:
        yield call


@contextlib.contextmanager
def _gradcam(target: Target) -> Iterator[Prepared]:
    task = get_task(target.task)
    requests = []
    for file in target.files:
        request = service_pb2.ModelInferRequest.FromString(image_request(task.gradcam, preprocess(file)))
        request.inputs.add(name=CLASS_INDEX_NAME, datatype="INT32", shape=[1, 1])
        request.raw_input_contents.append(np.int32(PREDICTED).tobytes())
        requests.append(request.SerializeToString())
    with contextlib.closing(Prepared(target.url, requests, target.timeout_s)) as call:
        yield call


class Threaded:
    """A call that waits for its answer, also for load that is sent by the clock: each in a thread of its own."""

    def __init__(self, call: Call) -> None:
        self._call = call
        self._threads = ThreadPoolExecutor(_MOST_WAITING)

    def __call__(self, number: int) -> object:
        """Ask, and wait for the answer."""
        return self._call(number)

    def start(self, number: int, done: Callable[[BaseException | None], None]) -> None:
        """Ask; `done` is called in another thread with what went wrong, or None."""
        self._threads.submit(self._call, number).add_done_callback(lambda answer: done(answer.exception()))

    def close(self) -> None:
        """Wait for what is under way."""
        self._threads.shutdown()


@contextlib.contextmanager
def _sdk_array(target: Target) -> Iterator[Threaded]:
    arrays = [preprocess(file) for file in target.files]
    with (
        Client(target.url, timeout_s=target.timeout_s) as client,
        contextlib.closing(Threaded(lambda number: client.classify(target.task, arrays[number % len(arrays)]))) as call,
    ):
        yield call


@contextlib.contextmanager
def _sdk_file(target: Target) -> Iterator[Call]:
    with Client(target.url, timeout_s=target.timeout_s) as client:
        yield lambda number: client.classify(target.task, target.files[number % len(target.files)])


@contextlib.contextmanager
def _encoded(target: Target) -> Iterator[Call]:
    """A service without the SDK: it reads the file and sends its bytes; the server decodes them."""
    task = get_task(target.task)
    connection = Connection(target.url)
    with connection.channel() as channel:
        infer = channel.unary_unary(
            _INFER,
            request_serializer=service_pb2.ModelInferRequest.SerializeToString,
            response_deserializer=service_pb2.ModelInferResponse.FromString,
        )

        def call(number: int) -> list[float]:
            data = Path(target.files[number % len(target.files)]).read_bytes()
            answer = infer(encoded_request(task, data), timeout=target.timeout_s, metadata=connection.metadata)
            return np.frombuffer(answer.raw_output_contents[0], np.float32).tolist()

        yield call


@contextlib.contextmanager
def _http(target: Target) -> Iterator[Call]:
    """Post a file, as a form or in base64; each thread keeps one connection, as a good client does."""
    here, all_of_them = threading.local(), []
    as_json = target.way == "http_json"
    forms = [(_json if as_json else _form)(Path(file).read_bytes()) for file in target.files]
    headers = {"Content-Type": "application/json" if as_json else f"multipart/form-data; boundary={_BOUNDARY}"}

    def call(number: int) -> object:
        connection = getattr(here, "connection", None)
        if connection is None:
            connection = here.connection = http.client.HTTPConnection(target.url, timeout=target.timeout_s)
            all_of_them.append(connection)
        try:
            connection.request("POST", "/predict", forms[number % len(forms)], headers)
            answer = connection.getresponse()
            body = answer.read()
        except (OSError, http.client.HTTPException):
            connection.close()
            raise
        if answer.status != http.HTTPStatus.OK:
            raise RuntimeError(f"HTTP {answer.status}: {body[:200]!r}")
        return json.loads(body)

    yield call
    for connection in all_of_them:
        connection.close()


def _json(data: bytes) -> bytes:
    return json.dumps({"file": base64.b64encode(data).decode()}).encode()


def _form(data: bytes) -> bytes:
    head = f'--{_BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename="a.jpg"\r\n'
    return f"{head}Content-Type: image/jpeg\r\n\r\n".encode() + data + f"\r\n--{_BOUNDARY}--\r\n".encode()


WAYS: dict[str, Callable[[Target], contextlib.AbstractContextManager[Any]]] = {
    "ready": _prepared,
    "sdk_array": _sdk_array,
    "sdk_file": _sdk_file,
    "encoded": _encoded,
    "encoded_ready": _encoded_ready,
    "gradcam": _gradcam,
    "http": _http,
    "http_json": _http,
}


def image_request(model: str, image: Any) -> bytes:
    """A serialised request for one picture, uint8 [224, 224, 3]."""
    request = service_pb2.ModelInferRequest(model_name=model)
    request.inputs.add(name=INPUT_NAME, datatype="UINT8", shape=[1, *IMAGE_SHAPE])
    request.raw_input_contents.append(np.ascontiguousarray(image).tobytes())
    serialised: bytes = request.SerializeToString()
    return serialised


def encoded_request(task: Task, data: bytes) -> Any:
    """A request for the ensemble, with the bytes of a file as they are."""
    request = service_pb2.ModelInferRequest(model_name=task.ensemble)
    request.inputs.add(name=ENCODED_NAME, datatype="BYTES", shape=[1, 1])
    request.raw_input_contents.append(len(data).to_bytes(4, "little") + data)
    return request


def failure_name(error: BaseException) -> str:
    """The name of densescan's error for what a call raised; of any other error, its class."""
    if isinstance(error, grpc.RpcError):
        return type(translate(str(error.code()), error.details() or "", FaultCall("", "", 0.0))).__name__
    return type(error).__name__


def served_files(paths: Sequence[Path]) -> tuple[str, ...]:
    """Paths as a `Target` holds them."""
    return tuple(str(path) for path in paths)


@dataclass(frozen=True)
class Load:
    """What one process of callers does.

    Attributes:
        targets: Whom to ask; with several, the callers are shared out among them in turn.
        callers: Callers that each wait for an answer before they ask again; ignored with a `rate`.
        seconds: How long to count.
        warm_up_s: How long to go on before counting.
        rate: Requests a second, sent by the clock whether or not answers come; None for callers that wait.
        seed: Of the times between requests that are sent by the clock.
    """

    targets: tuple[Target, ...]
    callers: int = 1
    seconds: float = 3.0
    warm_up_s: float = 1.0
    rate: float | None = None
    seed: int = 0
