"""Connections as the SDK makes them, for callers without it: TLS and metadata by the SDK's own variables."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc

from densescan import Client
from densescan._options import Options
from densescan._targets import channel_options, credentials, target

if TYPE_CHECKING:
    from server import EmbeddedTriton


class Connection:
    """How a server is reached, by its address and the variables DENSESCAN_TLS, DENSESCAN_CA_CERTIFICATE and so on.

    Attributes:
        target: What gRPC connects to.
        credentials: Of TLS; None for a plain connection.
        channel_options: Of gRPC itself.
        headers: What goes with each call, such as a token.
    """

    def __init__(self, url: str) -> None:
        """Read the variables.

        Raises:
            ValueError: One of them is outside its range, or names a file that cannot be read.
            ServerUnavailable: Of several addresses none resolves.
        """
        options = Options.of(url=url)
        self.target = target(options.url, options.timeout_s)
        self.credentials: Any = credentials(options)
        self.channel_options = channel_options(options)
        self.headers = options.headers()

    @property
    def metadata(self) -> tuple[tuple[str, str], ...]:
        """The headers as gRPC's own calls take them."""
        return tuple(self.headers.items())

    def channel(self) -> grpc.Channel:
        """A channel to the server; whoever asks for it closes it."""
        if self.credentials is None:
            return grpc.insecure_channel(self.target, self.channel_options)
        return grpc.secure_channel(self.target, self.credentials, self.channel_options)


def ready_models(url: str) -> set[str]:
    """Names of the models that a server has ready.

    Raises:
        ValueError: The address or one of the variables cannot be right.
        DensescanError: Nobody answers there, or not to us.
    """
    with Client(url, timeout_s=5) as client:
        return {model.name for model in client.status().models if model.ready}


@contextlib.contextmanager
def own_server(repository: Path, models: Sequence[str] = ()) -> Iterator[EmbeddedTriton]:
    """A server for this measurement alone, which is plain and is measured with the SDK's defaults.

    Args:
        repository: Folder of the models.
        models: As `EmbeddedTriton` takes them.

    Raises:
        ServerStartError: The server cannot start.
    """
    from server import EmbeddedTriton  # not in the image of the load test, which has no server of its own
    from server.environment import sdk_defaults

    with sdk_defaults(), EmbeddedTriton(repository, models=models) as triton:
        yield triton
