"""BentoML with the served int8 file: a service that decodes, and one behind it that batches adaptively."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

os.environ["BENTOML_DO_NOT_TRACK"] = "True"

import bentoml
import numpy as np
from PIL.Image import Image

from densescan.preprocessing import preprocess
from densescan.tasks import IMAGE_SHAPE, MAX_BATCH_SIZE, XRAY
from loadtest.raw import RawNetwork

_REPOSITORY = "DENSESCAN_PEER_REPOSITORY"


@bentoml.service(workers=1, traffic={"timeout": 30, "max_concurrency": 64})
class Network:
    """The network; the batches are made of what comes together."""

    def __init__(self) -> None:
        self._network = RawNetwork(XRAY, Path(os.environ[_REPOSITORY]), any_size=True)

    @bentoml.api(batchable=True, max_batch_size=MAX_BATCH_SIZE, max_latency_ms=20_000)
    def classify(self, images: np.ndarray) -> np.ndarray:
        """uint8 [n, 224, 224, 3] to probabilities."""
        return self._network(np.ascontiguousarray(images, np.uint8).reshape(-1, *IMAGE_SHAPE))


@bentoml.service(workers=1, traffic={"timeout": 30, "max_concurrency": 64})
class Front:
    """From a posted file to probabilities."""

    network = bentoml.depends(Network)

    @bentoml.api
    async def predict(self, file: Image) -> list[float]:
        """A picture to probabilities."""
        answer = await self.network.to_async.classify(preprocess(file)[None])
        return [float(value) for value in answer[0]]


if __name__ == "__main__":
    service = f"{Path(__file__).stem}:Front"
    options = ["--host", "127.0.0.1", "--port", sys.argv[1], "--working-dir", str(Path(__file__).parent)]
    command = [sys.executable, "-m", "bentoml", "serve", service, *options]
    sys.exit(subprocess.call(command, env={**os.environ, _REPOSITORY: sys.argv[2]}))
