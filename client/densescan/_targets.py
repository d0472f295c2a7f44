"""From the options to what gRPC wants: a target, channel options, credentials."""

from __future__ import annotations

import logging
import socket
import threading
import weakref
from typing import Any

from ._options import Options
from ._settings import CHANNEL_OPTIONS
from .errors import ServerUnavailable

log = logging.getLogger("densescan")


def channel_options(options: Options) -> list[tuple[str, Any]]:
    """Options of gRPC itself for the channel."""
    chosen: dict[str, Any] = dict(CHANNEL_OPTIONS)
    chosen["grpc.keepalive_time_ms"] = int(min(options.keepalive_s * 1000, 2**31 - 1))  # gRPC's own for never
    # Several addresses take turns, and one that is down is left out until it is back.
    chosen["grpc.lb_policy_name"] = "round_robin"
    name = options.server_name
    if name is None and options.tls and "," in options.url:
        name = options.url.split(",")[0].strip().rpartition(":")[0]  # gRPC sees addresses only
    if name is not None:
        chosen["grpc.ssl_target_name_override"] = name
        chosen["grpc.default_authority"] = name
    return list(chosen.items())


def credentials(options: Options) -> Any:
    """TLS credentials, or None for a plain connection.

    Raises:
        ValueError: A file cannot be read; the message names it and never shows its content.
    """
    if not options.tls:
        return None
    import grpc

    return grpc.ssl_channel_credentials(
        root_certificates=_read("ca_certificate", options.ca_certificate),
        private_key=_read("client_key", options.client_key),
        certificate_chain=_read("client_certificate", options.client_certificate),
    )


def target(url: str, timeout_s: float) -> str:
    """What gRPC is to connect to: `url` itself, or the addresses that a list of servers resolves to.

    Args:
        url: As the client was given it.
        timeout_s: Longest to look names up, in seconds.

    Raises:
        ServerUnavailable: No name in the list resolves, or it takes too long.
    """
    if "," not in url:
        return url
    found: list[str] = []
    # The system's resolver takes no time limit, and may need minutes.
    looking_up = threading.Thread(target=lambda: found.append(_resolved(url)), name="densescan-names", daemon=True)
    looking_up.start()
    looking_up.join(min(timeout_s, threading.TIMEOUT_MAX))
    if not found:
        raise _unresolved(f"no server available at {url}: its names did not resolve within {timeout_s:.3g} s")
    if not found[0]:
        raise _unresolved(f"no server available at {url}: none of the names resolves to an address")
    return found[0]


def _unresolved(message: str) -> ServerUnavailable:
    """As gRPC's own of a single name: it may resolve later."""
    error = ServerUnavailable(message)
    error.transient = True
    return error


def _resolved(url: str) -> str:
    """The addresses in gRPC's words; empty if there are none."""
    found: dict[str, set[str]] = {"ipv4": set(), "ipv6": set()}
    for server in filter(None, (part.strip() for part in url.split(","))):
        host, _, port = server.rpartition(":")
        try:
            resolved = socket.getaddrinfo(host.strip("[]"), int(port), type=socket.SOCK_STREAM)
        except (OSError, ValueError, OverflowError):
            log.warning("%s does not resolve, and is left out", server)  # the others may do
            continue
        for family, *_, address in resolved:
            if family == socket.AF_INET:
                found["ipv4"].add(f"{address[0]!s}:{port}")
            elif family == socket.AF_INET6:
                found["ipv6"].add(f"[{address[0]!s}]:{port}")
    for scheme, addresses in found.items():
        if addresses:  # gRPC takes one family at a time
            return f"{scheme}:{','.join(sorted(addresses))}"
    return ""


def close_with(client: Any, connection: Any) -> None:
    """Close the connection of a client that nobody closes.

    That is with the client's last reference, or before the interpreter takes gRPC apart, which would print a traceback
    at the end of a script.
    """
    weakref.finalize(client, _release, weakref.ref(client), connection)


def _release(owner: weakref.ref[Any], connection: Any) -> None:
    client = owner()
    if client is not None:
        client._connection = None
    connection.close()


def _read(name: str, path: str | None) -> bytes | None:
    if path is None:
        return None
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError as error:
        raise ValueError(f"{name} {path} cannot be read: {error.strerror}") from error
