"""OpenTelemetry: what reaches a collector, and what must not."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from tritonclient.grpc import InferenceServerClient, InferInput

from tests.server import tiny
from tests.server.conftest import eventually

from .conftest import Container


class Collector(ThreadingHTTPServer):
    """Takes OpenTelemetry traces over HTTP and keeps them."""

    daemon_threads = True

    def __init__(self) -> None:
        self.bodies: list[bytes] = []
        super().__init__(("127.0.0.1", 0), CollectorHandler)
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1/traces"


class CollectorHandler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        assert isinstance(self.server, Collector)
        self.server.bodies.append(self.rfile.read(int(self.headers["Content-Length"])))
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.mark.triton
@pytest.mark.slow
def test_one_variable_switches_tracing_on_for_callers_who_trace(start_container: Callable[..., Container]) -> None:
    collector = Collector()
    container = start_container({"DENSESCAN_OTLP_URL": collector.url})
    caller = "4bf92f3577b34da6a3ce929d0e0e4736"
    pictures = tiny.pictures(1)
    image = InferInput("image", list(pictures.shape), "UINT8")
    image.set_data_from_numpy(pictures)
    with InferenceServerClient(f"127.0.0.1:{container.grpc}") as client:
        # More than one: Triton 2.51 fails to read some of the headers (4 to 10 of 100 seen), and traces those never.
        for _ in range(10):
            client.infer("tiny", [image])
            client.infer("tiny", [image], headers={"traceparent": f"00-{caller}-00f067aa0ba902b7-01"})
    assert eventually(lambda: bool(collector.bodies))
    container.stop()
    collector.shutdown()
    collector.server_close()
    resources = [resource for body in collector.bodies for resource in json.loads(body)["resourceSpans"]]
    names = {entry["key"]: entry["value"].get("stringValue") for entry in resources[0]["resource"]["attributes"]}
    assert names["service.name"] == "densescan"
    spans = [span for resource in resources for scope in resource["scopeSpans"] for span in scope["spans"]]
    # The caller who does not trace is not traced, and the other finds the server's part in its own trace.
    assert {span["traceId"] for span in spans} == {caller}
    assert len({span["spanId"] for span in spans if span["name"] == "InferRequest"}) >= 5
    assert {"InferRequest", "compute"} <= {span["name"] for span in spans}
    assert base64.b64encode(pictures.tobytes()) not in b"".join(collector.bodies)
