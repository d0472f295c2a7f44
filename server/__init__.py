"""The embedded server: the real Triton that the wheel ``nvidia-pytriton`` carries, on loopback.

``python -m server`` from a shell; from Python::

    from server import EmbeddedTriton

    with EmbeddedTriton("model_repository", profile="cpu") as triton:
        print(triton.grpc_url)
"""

from __future__ import annotations

from .embedded import EmbeddedTriton
from .errors import ServerStartError

__all__ = ["EmbeddedTriton", "ServerStartError"]
