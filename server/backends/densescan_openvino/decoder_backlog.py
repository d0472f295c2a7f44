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


def open_backlog(parameters: Mapping[str, str], network: str) -> Backlog | None:
    """The count that a config asks for, or None.

    Args:
        parameters: Of the config.
        network: Name of the model, for the log.
    """
    decoder = parameters.get(DECODER, "")
    if not decoder:
        return None
    try:
        from densescan.serving.backlog import Backlog

        return Backlog(decoder, create=True, say=pb_utils.Logger.log_warn)
    except (ImportError, OSError) as error:
        pb_utils.Logger.log_warn(f"{network}: {decoder} is not told of batches: {error}")
        return None
