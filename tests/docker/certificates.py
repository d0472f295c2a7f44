"""Certificates of the project's own script, and wrong ones."""

from __future__ import annotations

import datetime
import subprocess
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from .images import ROOT

SCRIPT = ROOT / "docker/make_certificates.sh"


def make(folder: Path, *options: str) -> Path:
    subprocess.run(["bash", str(SCRIPT), str(folder), *options], check=True, capture_output=True, timeout=60)
    return folder


def make_expired_client(authority: Path, into: Path) -> tuple[Path, Path]:
    """A client's certificate that the authority has signed, and that was valid until an hour ago."""
    signer = serialization.load_pem_private_key((authority / "ca-key.pem").read_bytes(), None)
    assert isinstance(signer, ec.EllipticCurvePrivateKey)
    issuer = x509.load_pem_x509_certificate((authority / "ca.pem").read_bytes()).subject
    key = ec.generate_private_key(ec.SECP256R1())
    now = datetime.datetime.now(datetime.timezone.utc)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "late")]))
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=2))
        .not_valid_after(now - datetime.timedelta(hours=1))
        .sign(signer, hashes.SHA256())
    )
    (into / "late.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    (into / "late-key.pem").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return into / "late.pem", into / "late-key.pem"
