"""The CPU image's files without certificates: what a caller may do, and what nobody may."""

from __future__ import annotations

import http.client
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tritonclient.grpc import InferenceServerClient, InferInput
from tritonclient.utils import InferenceServerException

from tests.server import tiny

from .conftest import Container

pytestmark = pytest.mark.triton

KEY = "0123456789abcdef" * 4
HEADER = {"triton-grpc-protocol-admin-key": KEY}
GRPC_CLOSED: dict[str, tuple[Callable[..., Any], dict[str, Any]]] = {
    "shared memory status": (InferenceServerClient.get_system_shared_memory_status, {}),
    "shared memory": (
        InferenceServerClient.register_system_shared_memory,
        {"name": "x", "key": "/densescan_none", "byte_size": 64},
    ),
    "CUDA shared memory": (InferenceServerClient.get_cuda_shared_memory_status, {}),
    "trace settings": (InferenceServerClient.get_trace_settings, {}),
    "tracing to a file": (
        InferenceServerClient.update_trace_settings,
        {"settings": {"trace_file": "/tmp/densescan_trace", "trace_level": ["TENSORS"], "trace_rate": "1"}},
    ),
    "log settings": (InferenceServerClient.get_log_settings, {}),
    "log file": (InferenceServerClient.update_log_settings, {"settings": {"log_file": "/tmp/densescan_log"}}),
}
HTTP_CLOSED = [
    ("GET", "/v2"),
    ("GET", "/v2/models/tiny"),
    ("GET", "/v2/models/tiny/config"),
    ("GET", "/v2/models/tiny/stats"),
    ("GET", "/v2/models/stats"),
    ("POST", "/v2/models/tiny/infer"),
    ("POST", "/v2/models/tiny/generate"),
    ("POST", "/v2/repository/index"),
    ("POST", "/v2/repository/models/tiny/load"),
    ("POST", "/v2/repository/models/tiny/unload"),
    ("GET", "/v2/systemsharedmemory/status"),
    ("GET", "/v2/cudasharedmemory/status"),
    ("GET", "/v2/trace/setting"),
    ("POST", "/v2/trace/setting"),
    ("GET", "/v2/logging"),
    ("POST", "/v2/logging"),
]


@pytest.fixture(scope="module")
def container(start_container: Callable[..., Container], tmp_path_factory: pytest.TempPathFactory) -> Container:
    path = tmp_path_factory.mktemp("key") / "admin"
    path.write_text(KEY + "\n")
    return start_container({"DENSESCAN_ADMIN_KEY_FILE": str(path)})


@pytest.fixture(scope="module")
def client(container: Container) -> Any:
    with InferenceServerClient(f"127.0.0.1:{container.grpc}") as opened:
        yield opened


def http_answer(port: int, method: str, path: str, body: str = "{}", **headers: str) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request(method, path, body if method == "POST" else None, headers)
    response = connection.getresponse()
    answer = response.status, response.read()
    connection.close()
    return answer


def http_status(port: int, method: str, path: str, **headers: str) -> int:
    return http_answer(port, method, path, **headers)[0]


def test_what_callers_need_is_open(client: InferenceServerClient) -> None:
    pictures = tiny.pictures(1)
    image = InferInput("image", list(pictures.shape), "UINT8")
    image.set_data_from_numpy(pictures)
    answer = client.infer("tiny", [image]).as_numpy("probabilities")
    assert np.allclose(answer, tiny.expected_probabilities(pictures), atol=1e-5)
    assert client.is_server_ready()
    assert client.get_server_metadata().name == "triton"
    assert client.get_model_config("tiny").config.name == "tiny"
    assert {model.name for model in client.get_model_repository_index().models} == {"tiny", "tiny_pair"}


@pytest.mark.parametrize("name", GRPC_CLOSED)
def test_management_is_closed_without_the_key(client: InferenceServerClient, name: str) -> None:
    call, arguments = GRPC_CLOSED[name]
    with pytest.raises(InferenceServerException, match="expecting header"):
        call(client, **arguments)
    with pytest.raises(InferenceServerException, match="expecting header"):
        call(client, **arguments, headers={**HEADER, "triton-grpc-protocol-admin-key": KEY[:-1]})
    assert not Path("/tmp/densescan_trace").exists()
    assert not Path("/tmp/densescan_log").exists()


def test_the_key_opens_it(client: InferenceServerClient) -> None:
    assert client.get_log_settings(headers=HEADER).settings["log_error"].bool_param is True


@pytest.mark.parametrize("headers", [None, HEADER], ids=["without the key", "with the key"])
def test_nobody_loads_or_unloads_a_model(client: InferenceServerClient, headers: dict[str, str] | None) -> None:
    config = json.dumps({"backend": "python"})
    for call in (
        lambda: client.load_model("tiny", headers=headers),
        lambda: client.load_model("tiny", headers=headers, config=config, files={"file:1/model.py": b"evil"}),
        lambda: client.unload_model("tiny", headers=headers),
    ):
        with pytest.raises(InferenceServerException, match="not allowed"):
            call()
    assert client.is_model_ready("tiny")


@pytest.mark.parametrize(("method", "path"), HTTP_CLOSED, ids=lambda part: part)
def test_http_answers_nothing_but_health(container: Container, method: str, path: str) -> None:
    assert http_status(container.http, method, path) == 403
    assert http_status(container.http, method, path, **{"admin-key": KEY}) == 403


@pytest.mark.parametrize("path", ["/v2/health/live", "/v2/health/ready", "/v2/models/tiny/ready"])
def test_probes_are_answered(container: Container, path: str) -> None:
    assert http_status(container.http, "GET", path) == 200


def test_metrics_are_at_their_own_port_and_nothing_else_is(container: Container) -> None:
    assert http_status(container.metrics, "GET", "/metrics") == 200
    assert http_status(container.http, "GET", "/metrics") != 200
    for method, path in HTTP_CLOSED:
        _, body = http_answer(container.metrics, method, path)
        assert body == b"" or b"Method Not Allowed" in body


@pytest.mark.parametrize("model", ["../tiny", "tiny/../../x", "/etc/passwd", "x" * 100_000])
def test_a_model_name_that_is_a_path_finds_nothing(client: InferenceServerClient, model: str) -> None:
    pictures = tiny.pictures(1)
    image = InferInput("image", list(pictures.shape), "UINT8")
    image.set_data_from_numpy(pictures)
    with pytest.raises(InferenceServerException):
        client.infer(model, [image])
    assert client.is_server_ready()


def test_a_name_ends_at_a_zero_byte_so_a_gateway_must_not_filter_by_prefix(client: InferenceServerClient) -> None:
    pictures = tiny.pictures(1)
    image = InferInput("image", list(pictures.shape), "UINT8")
    image.set_data_from_numpy(pictures)
    answer = client.infer("tiny\0allowed", [image])
    assert answer.get_response().model_name == "tiny"
