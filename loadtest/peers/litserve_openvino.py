"""LitServe with the served int8 file: batches, its faster queue, and the SDK's preprocessing."""

from __future__ import annotations

import base64
import sys
from pathlib import Path
from typing import Any

import litserve
import numpy as np

from densescan.preprocessing import preprocess
from densescan.tasks import MAX_BATCH_SIZE, XRAY
from loadtest.raw import RawNetwork


class Classifier(litserve.LitAPI):
    """From a posted file to probabilities."""

    def __init__(self, repository: Path, **options: Any) -> None:
        super().__init__(**options)
        self._repository = repository

    def setup(self, device: str) -> None:
        """Load the network, in the worker."""
        self._network = RawNetwork(XRAY, self._repository, any_size=True)

    def decode_request(self, request: dict[str, str]) -> Any:
        """JSON to a picture; its queue between processes does not take the file of a form."""
        return preprocess(base64.b64decode(request["file"]))

    def batch(self, inputs: list[Any]) -> Any:
        """Pictures to a batch."""
        return np.stack(inputs)

    def predict(self, batch: Any) -> Any:
        """A batch to probabilities."""
        return self._network(batch)

    def unbatch(self, output: Any) -> list[Any]:
        """Probabilities of each picture."""
        return list(output)

    def encode_response(self, output: Any) -> list[float]:
        """Probabilities to JSON."""
        return [float(value) for value in output]


if __name__ == "__main__":
    api = Classifier(Path(sys.argv[2]), max_batch_size=MAX_BATCH_SIZE, batch_timeout=0.002)
    server = litserve.LitServer(api, accelerator="cpu", workers_per_device=1, fast_queue=True)
    server.run(
        host="127.0.0.1", port=int(sys.argv[1]), num_api_servers=1, generate_client_file=False, log_level="error"
    )
