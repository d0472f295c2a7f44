"""Every option of a client: by argument, else by environment variable, else the default. No I/O.

`OPTIONS` is the one list of them; the table in docs/sdk.md is checked against it.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from ._limits import MAX_FILE_BYTES, MAX_PIXELS
from ._settings import DEFAULT_TIMEOUT_S, URL_VARIABLE, check_timeout, resolve_url

Metadata: TypeAlias = Mapping[str, str] | Callable[[], Mapping[str, str]]
"""What goes with each request, such as a token; a function is asked anew for each."""

FilePath: TypeAlias = "str | os.PathLike[str]"

DEFAULT_RETRIES: Final = 2
DEFAULT_KEEPALIVE_S: Final = 30.0

OPTIONS: Final[dict[str, str]] = {
    "url": URL_VARIABLE,
    "timeout_s": "DENSESCAN_TIMEOUT_S",
    "retries": "DENSESCAN_RETRIES",
    "retry_overloaded": "DENSESCAN_RETRY_OVERLOADED",
    "hold_back": "DENSESCAN_HOLD_BACK",
    "tls": "DENSESCAN_TLS",
    "ca_certificate": "DENSESCAN_CA_CERTIFICATE",
    "client_certificate": "DENSESCAN_CLIENT_CERTIFICATE",
    "client_key": "DENSESCAN_CLIENT_KEY",
    "server_name": "DENSESCAN_SERVER_NAME",
    "metadata": "DENSESCAN_METADATA",
    "keepalive_s": "DENSESCAN_KEEPALIVE_S",
    "max_pixels": "DENSESCAN_MAX_PIXELS",
    "max_file_bytes": "DENSESCAN_MAX_FILE_BYTES",
}
"""Argument of the clients to environment variable."""

_METADATA_NAME: Final = re.compile(r"[0-9a-z_.-]+")
_METADATA_VALUE: Final = re.compile(r"[ -~]*")

_YES: Final = frozenset({"1", "true", "yes", "on"})
_NO: Final = frozenset({"0", "false", "no", "off"})


@dataclass(frozen=True)
class Options:
    """The options of one client, resolved and checked; see `densescan.Client` for what they mean."""

    url: str
    timeout_s: float
    retries: int
    retry_overloaded: bool
    hold_back: bool
    tls: bool
    ca_certificate: str | None
    client_certificate: str | None
    client_key: str | None
    server_name: str | None
    metadata: Metadata
    keepalive_s: float
    max_pixels: int
    max_file_bytes: int

    @classmethod
    def of(cls, **given: Any) -> Options:
        """Resolve the arguments that a client was made with; None stands for not given.

        Raises:
            ValueError: An option is outside its range; the message names it, or its variable.
        """
        certificate, key = _path(given, "client_certificate"), _path(given, "client_key")
        if (certificate is None) != (key is None):
            raise ValueError("client_certificate and client_key belong together: give both, or neither")
        ca = _path(given, "ca_certificate")
        name = _value(given, "server_name", str, None)
        metadata = _value(given, "metadata", _pairs, {})
        implied = any(value is not None for value in (certificate, ca, name))
        return cls(
            url=resolve_url(given.get("url")),
            timeout_s=check_timeout(_value(given, "timeout_s", float, DEFAULT_TIMEOUT_S)),
            retries=_at_least(0, given, "retries", int, DEFAULT_RETRIES),
            retry_overloaded=_value(given, "retry_overloaded", _flag, False),
            hold_back=_value(given, "hold_back", _flag, True),
            tls=_value(given, "tls", _flag, implied),
            ca_certificate=ca,
            client_certificate=certificate,
            client_key=key,
            server_name=name,
            metadata=metadata if callable(metadata) else check_metadata(metadata),
            keepalive_s=_at_least(1, given, "keepalive_s", float, DEFAULT_KEEPALIVE_S),
            max_pixels=_at_least(1, given, "max_pixels", int, MAX_PIXELS),
            max_file_bytes=_at_least(1, given, "max_file_bytes", int, MAX_FILE_BYTES),
        )

    def headers(self, more: Mapping[str, str] | None = None) -> dict[str, str]:
        """What goes with the next request: the client's metadata, the call's own, and the trace that the caller is in.

        Raises:
            ValueError: Metadata that cannot be sent; the message names it and never shows its value.
        """
        import sys

        own = check_metadata(self.metadata()) if callable(self.metadata) else self.metadata
        headers = {**own, **(more or {})}
        if "opentelemetry" in sys.modules:
            from opentelemetry.propagate import inject

            inject(headers)
        return headers


def check_metadata(metadata: Mapping[str, str]) -> dict[str, str]:
    """`metadata` with its names in lower case, which is all that gRPC takes.

    Raises:
        ValueError: A name or a value that cannot be sent. gRPC itself would show the value, which may be a secret.
    """
    checked: dict[str, str] = {}
    for name, value in metadata.items():
        key = str(name).lower()
        if not _METADATA_NAME.fullmatch(key) or key.startswith("grpc-") or key.endswith("-bin"):
            raise ValueError(
                f"metadata {name!r}: a name has letters, digits, '-', '_' and '.' only, and is none of gRPC's own "
                "(grpc-..., ...-bin)"
            )
        if not isinstance(value, str) or not _METADATA_VALUE.fullmatch(value):
            raise ValueError(f"metadata {name!r} has a value that cannot be sent; expected text of printable ASCII")
        checked[key] = value
    return checked


def _value(given: Mapping[str, Any], name: str, parse: Callable[[str], Any], default: Any) -> Any:
    value = given.get(name)
    if value is not None:
        return value
    text = os.environ.get(OPTIONS[name], "").strip()
    if not text:
        return default
    try:
        return parse(text)
    except ValueError:
        found = "cannot be read" if parse is _pairs else f"is {text!r}"  # metadata may be a secret
        raise ValueError(f"the environment variable {OPTIONS[name]} {found}; expected {_EXPECTED[parse]}") from None


def _path(given: Mapping[str, Any], name: str) -> str | None:
    value = _value(given, name, str, None)
    return None if value is None else os.fspath(value)


def _at_least(least: float, given: Mapping[str, Any], name: str, parse: Callable[[str], Any], default: Any) -> Any:
    value = _value(given, name, parse, default)
    if not (math.isfinite(value) and value >= least):
        raise ValueError(f"{name} is {value}; expected {least} or more")
    return value


def _flag(text: str) -> bool:
    if text.lower() not in _YES | _NO:
        raise ValueError(text)
    return text.lower() in _YES


def _pairs(text: str) -> dict[str, str]:
    pairs = [pair.partition("=") for pair in text.split(",") if pair.strip()]
    if not all(key.strip() and equals for key, equals, _ in pairs):
        raise ValueError(text)
    return {key.strip(): value.strip() for key, _, value in pairs}


_EXPECTED: Final[dict[Callable[[str], Any], str]] = {
    float: "a number",
    int: "a whole number",
    str: "a text",
    _flag: "true or false",
    _pairs: "name=value, or several of them with commas between",
}
