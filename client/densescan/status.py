"""What a server says about itself and its models."""

from __future__ import annotations

from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class ModelStatus:
    """One version of one model in the server's repository.

    Attributes:
        name: The model.
        version: Its version; empty when no version could be loaded.
        ready: It answers requests.
        reason: Why not, in the server's words; empty when ready.
    """

    name: str
    version: str
    ready: bool
    reason: str = ""


@dataclass(frozen=True)
class ServerStatus:
    """One server, at the moment it was asked.

    Attributes:
        url: Its address, as the client was given it.
        name: The server's name, ``triton``.
        version: The server's version.
        live: It takes requests.
        ready: Its models take requests.
        models: Every model and version that it knows, by name.
    """

    url: str
    name: str
    version: str
    live: bool
    ready: bool
    models: tuple[ModelStatus, ...]

    def to_dict(self) -> dict[str, object]:
        """The same as plain values that `json.dumps` takes."""
        return asdict(self)
