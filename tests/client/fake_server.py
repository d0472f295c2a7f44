"""A gRPC server on loopback that speaks Triton's protocol and fails on demand.

For faults only, which the real server does not show at will: what a server does is tested
against the real one, in test_served.py.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent import futures
from typing import Any

import grpc
import numpy as np
from tritonclient.grpc import model_config_pb2, service_pb2, service_pb2_grpc

Handler = Callable[[Any, Any], Any]


def answer(
    probabilities: Sequence[float], *, name: str = "probabilities", dtype: type = np.float32, version: str = "1"
) -> Any:
    """A ModelInferResponse of one picture."""
    values = np.asarray([probabilities], dtype)
    response = service_pb2.ModelInferResponse(model_version=version)
    output = response.outputs.add(name=name, datatype="FP32" if dtype is np.float32 else "FP64")
    output.shape.extend(values.shape)
    response.raw_output_contents.append(values.tobytes())
    return response


def config(**parameters: str) -> Any:
    """A ModelConfigResponse with these parameters."""
    values = {key: model_config_pb2.ModelParameter(string_value=text) for key, text in parameters.items()}
    return service_pb2.ModelConfigResponse(config=model_config_pb2.ModelConfig(parameters=values))


def refuse(code: grpc.StatusCode, details: str) -> Handler:
    """A handler that fails with this status."""

    def handler(request: Any, context: Any) -> Any:
        context.abort(code, details)

    return handler


class FakeTriton(service_pb2_grpc.GRPCInferenceServiceServicer):  # type: ignore[misc]
    """Answers every request for xray with 0.2, 0.8 and for mri with 0.1, 0.2, 0.3, 0.4.

    Set `on_infer`, `on_config` or `on_index` to a function of (request, context) to do otherwise.
    """

    def __init__(self, port: int = 0) -> None:
        self.on_infer: Handler = lambda request, context: answer(
            [0.2, 0.8] if request.model_name.startswith("xray") else [0.1, 0.2, 0.3, 0.4]
        )
        self.on_config: Handler = lambda request, context: config(operating_point="0.5")
        self.index = service_pb2.RepositoryIndexResponse()
        self.on_index: Handler = lambda request, context: self.index
        self.ready = True
        self.requests: list[Any] = []
        self.released = threading.Event()
        self._server = grpc.server(futures.ThreadPoolExecutor(16))
        service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(self, self._server)
        self.url = f"127.0.0.1:{self._server.add_insecure_port(f'127.0.0.1:{port}')}"
        self._server.start()

    def stop(self) -> None:
        """Cut every connection at once."""
        self.released.set()
        self._server.stop(None).wait()

    def hang(self, request: Any, context: Any) -> Any:
        """A handler that answers nothing until the server stops."""
        self.released.wait(20)
        return answer([0.5, 0.5])

    def add_model(self, name: str, version: str, state: str, reason: str = "") -> None:
        """List a model in the repository index."""
        self.index.models.add(name=name, version=version, state=state, reason=reason)

    def asked(self, kind: str) -> list[Any]:
        """The requests of one kind so far, such as ``ModelInfer``."""
        return [request for request in self.requests if type(request).__name__ == f"{kind}Request"]

    def ModelInfer(self, request: Any, context: Any) -> Any:
        self.requests.append(request)
        return self.on_infer(request, context)

    def ModelConfig(self, request: Any, context: Any) -> Any:
        self.requests.append(request)
        return self.on_config(request, context)

    def ServerLive(self, request: Any, context: Any) -> Any:
        self.requests.append(request)
        return service_pb2.ServerLiveResponse(live=True)

    def ServerReady(self, request: Any, context: Any) -> Any:
        return service_pb2.ServerReadyResponse(ready=self.ready)

    def ServerMetadata(self, request: Any, context: Any) -> Any:
        return service_pb2.ServerMetadataResponse(name="triton", version="2.99.0")

    def RepositoryIndex(self, request: Any, context: Any) -> Any:
        return self.on_index(request, context)
