"""Classify a file with grpcio and generated stubs alone, as any language would: no SDK, no preprocessing here.

python examples/python_stubs/classify.py xray film.png [HOST:PORT]
"""

from __future__ import annotations

import struct
import sys
from pathlib import Path

import grpc
from tritonclient.grpc import service_pb2 as pb
from tritonclient.grpc.service_pb2_grpc import GRPCInferenceServiceStub


def classify(stub: GRPCInferenceServiceStub, task: str, file: bytes, timeout_s: float = 10) -> dict[str, float]:
    """The probability of each label: the server decodes the file, and names the labels."""
    request = pb.ModelInferRequest(model_name=f"{task}_classifier")
    request.inputs.add(name="encoded_image", datatype="BYTES", shape=[1, 1])
    request.raw_input_contents.append(struct.pack("<I", len(file)) + file)  # BYTES: length, then content
    output = request.outputs.add(name="probabilities")
    output.parameters["classification"].int64_param = 10  # at most ten labels, the most probable first
    response = stub.ModelInfer(request, timeout=timeout_s)
    return dict(_labels(response.raw_output_contents[0]))


def _labels(raw: bytes) -> list[tuple[str, float]]:
    """Entries such as ``0.97:1:PNEUMONIA``, each behind its length."""
    found = []
    while raw:
        (length,) = struct.unpack_from("<I", raw)
        probability, _, label = raw[4 : 4 + length].decode().split(":")
        found.append((label, float(probability)))
        raw = raw[4 + length :]
    return found


def main() -> None:
    """Print a line for each label."""
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    task, path, *url = sys.argv[1:]
    with grpc.insecure_channel(url[0] if url else "localhost:8001") as channel:
        for label, probability in classify(GRPCInferenceServiceStub(channel), task, Path(path).read_bytes()).items():
            sys.stdout.write(f"{probability:.4f} {label}\n")


if __name__ == "__main__":
    main()
