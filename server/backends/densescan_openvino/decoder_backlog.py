"""Tells the decoder of an ensemble how many pictures its network has taken, so that it does not decode in vain.

The decoder counts by the package densescan, which it needs anyhow; where that is not installed, nothing is counted.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import triton_python_backend_utils as pb_utils

if TYPE_CHECKING:
    from densescan.serving.backlog import Backlog

DECODER = "FLOW_FROM"
"""The parameter of a model's config that names the decoding model whose pictures it gets."""


class DecoderBacklog:
    """A network's side of the count.

    Args:
        backlog: The count.
        network: Name of the network's model.
    """

    def __init__(self, backlog: Backlog, network: str) -> None:
        self._backlog: Backlog | None = backlog
        self._network = network

    def take(self, pictures: int, *, full: bool) -> None:
        """Count a batch; what goes wrong with that is no reason not to answer, and ends the counting."""
        if self._backlog is None:
            return
        try:
            self._backlog.take(pictures, full=full)
        except OSError as error:
            pb_utils.Logger.log_warn(f"{self._network}: the decoder is no longer told of batches: {error}")
            self.close()

    def close(self) -> None:
        """Stop counting."""
        if self._backlog is not None:
            self._backlog.close()
            self._backlog = None


def open_backlog(parameters: Mapping[str, str], network: str) -> DecoderBacklog | None:
    """The count that a config asks for, or None."""
    decoder = parameters.get(DECODER, "")
    if not decoder:
        return None
    try:
        from densescan.serving.backlog import Backlog

        return DecoderBacklog(Backlog(decoder, create=True), network)
    except (ImportError, OSError) as error:
        pb_utils.Logger.log_warn(f"{network}: {decoder} is not told of batches: {error}")
        return None
