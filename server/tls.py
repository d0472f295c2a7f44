"""TLS for the gRPC endpoint, as options of tritonserver.

The standard library is all that this needs: the container runs it as it is.
"""

from __future__ import annotations

import os
import ssl
from pathlib import Path

StrPath = str | os.PathLike[str]


class TlsError(ValueError):
    """The files do not make a TLS endpoint; the message says what to do."""


def tls_options(certificate: StrPath = "", key: StrPath = "", client_ca: StrPath = "") -> list[str]:
    """Options for files in PEM form; none: no TLS.

    Args:
        certificate: The server's certificate, and those between it and its authority.
        key: The key of that certificate.
        client_ca: Certificates of authorities; a caller must show a certificate that one of them has signed.

    Raises:
        TlsError: One of the first two is given alone, a file cannot be read or is not PEM, or the key is another's.
    """
    if not any((certificate, key, client_ca)):
        return []
    if not (certificate and key):
        raise TlsError("TLS needs a certificate and its key: name both files")
    for path in filter(None, (certificate, key, client_ca)):
        # Triton only logs that it could not read one, and then serves without TLS or refuses every caller.
        if not (Path(path).is_file() and os.access(path, os.R_OK)):
            raise TlsError(f"{path} cannot be read by user {os.getuid()}: correct its name or its owner")
    _check(Path(certificate), Path(key), client_ca)
    options = [f"--grpc-server-cert={Path(certificate)}", f"--grpc-server-key={Path(key)}"]
    if client_ca:
        return ["--grpc-use-ssl-mutual=true", *options, f"--grpc-root-cert={Path(client_ca)}"]
    return ["--grpc-use-ssl=true", *options]


def _check(certificate: Path, key: Path, client_ca: StrPath) -> None:
    """Refuse what Triton would refuse at its very end, as an address in use."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(certificate, key, password=lambda: "")  # none can be entered in Triton
    except ssl.SSLError as error:
        why = error.reason or "they cannot be read"
        raise TlsError(
            f"{certificate} and {key} are no certificate and its key, as PEM and without password: {why}"
        ) from error
    if client_ca:
        try:
            context.load_verify_locations(client_ca)
        except ssl.SSLError as error:
            why = error.reason or "it cannot be read"
            raise TlsError(f"{client_ca} holds no certificates as PEM: {why}") from error
