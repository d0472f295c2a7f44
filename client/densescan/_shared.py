"""Functions over one client that the whole process shares, for scripts and notebooks."""

from __future__ import annotations

import threading
from collections.abc import Mapping

from ._settings import resolve_url
from .client import Client
from .explanation import Explanation
from .images import ImageSource
from .results import Classification

_lock = threading.Lock()
_client: Client | None = None


def shared_client() -> Client:
    """The client of DENSESCAN_URL; a new one when that has changed."""
    global _client
    with _lock:
        url = resolve_url(None)
        if _client is None or _client.url != url:
            # Not closed: another thread may be using it. It closes when the last of them lets go.
            _client = Client(url)
        return _client


def classify_xray(
    image: ImageSource,
    *,
    threshold: float | None = None,
    timeout_s: float | None = None,
    model_version: str = "",
    metadata: Mapping[str, str] | None = None,
) -> Classification:
    """`Client.classify_xray` on the server at DENSESCAN_URL, by default ``localhost:8001``."""
    return shared_client().classify_xray(
        image, threshold=threshold, timeout_s=timeout_s, model_version=model_version, metadata=metadata
    )


def classify_mri(
    image: ImageSource,
    *,
    timeout_s: float | None = None,
    model_version: str = "",
    metadata: Mapping[str, str] | None = None,
) -> Classification:
    """`Client.classify_mri` on the server at DENSESCAN_URL, by default ``localhost:8001``."""
    return shared_client().classify_mri(image, timeout_s=timeout_s, model_version=model_version, metadata=metadata)


def explain_xray(
    image: ImageSource,
    *,
    target: str | None = None,
    threshold: float | None = None,
    timeout_s: float | None = None,
    model_version: str = "",
    metadata: Mapping[str, str] | None = None,
) -> Explanation:
    """`Client.explain_xray` on the server at DENSESCAN_URL, by default ``localhost:8001``."""
    return shared_client().explain_xray(
        image, target=target, threshold=threshold, timeout_s=timeout_s, model_version=model_version, metadata=metadata
    )


def explain_mri(
    image: ImageSource,
    *,
    target: str | None = None,
    timeout_s: float | None = None,
    model_version: str = "",
    metadata: Mapping[str, str] | None = None,
) -> Explanation:
    """`Client.explain_mri` on the server at DENSESCAN_URL, by default ``localhost:8001``."""
    return shared_client().explain_mri(
        image, target=target, timeout_s=timeout_s, model_version=model_version, metadata=metadata
    )
