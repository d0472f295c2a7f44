from __future__ import annotations

import ipaddress
import stat
import subprocess
from pathlib import Path

import pytest
from cryptography import x509

from . import certificates


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    into = tmp_path_factory.mktemp("tls") / "new"
    return certificates.make(into, "--server", "triton", "--server", "10.0.0.7", "--client", "radiology")


def read(path: Path) -> x509.Certificate:
    return x509.load_pem_x509_certificate(path.read_bytes())


def test_keys_are_for_their_owner_only_and_certificates_can_be_read(folder: Path) -> None:
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()}
    assert {name: mode for name, mode in modes.items() if name.endswith("-key.pem")} == dict.fromkeys(
        ("ca-key.pem", "server-key.pem", "radiology-key.pem"), 0o600
    )
    assert modes["ca.pem"] == modes["server.pem"] == 0o644


def test_the_server_may_be_called_by_every_name_it_was_given(folder: Path) -> None:
    names = read(folder / "server.pem").extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["localhost", "triton"]
    addresses = [ipaddress.ip_address("127.0.0.1"), ipaddress.ip_address("10.0.0.7")]
    assert names.get_values_for_type(x509.IPAddress) == addresses


@pytest.mark.parametrize(("name", "purpose"), [("server", "serverAuth"), ("radiology", "clientAuth")])
def test_a_certificate_is_for_one_purpose_and_signs_nothing(folder: Path, name: str, purpose: str) -> None:
    extensions = read(folder / f"{name}.pem").extensions
    (usage,) = extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert usage._name == purpose
    assert extensions.get_extension_for_class(x509.BasicConstraints).value.ca is False
    read(folder / f"{name}.pem").verify_directly_issued_by(read(folder / "ca.pem"))


def test_a_second_run_keeps_the_authority_and_renews_the_rest(tmp_path: Path) -> None:
    certificates.make(tmp_path / "tls")
    before = {path.name: path.read_bytes() for path in (tmp_path / "tls").iterdir()}
    certificates.make(tmp_path / "tls", "--days", "7")
    after = {path.name: path.read_bytes() for path in (tmp_path / "tls").iterdir()}
    assert {name for name in before if before[name] == after[name]} == {"ca.pem", "ca-key.pem"}
    valid = read(tmp_path / "tls/server.pem")
    assert (valid.not_valid_after_utc - valid.not_valid_before_utc).days == 7


@pytest.mark.parametrize(
    "options",
    [
        ("--client", "../x"),
        ("--client", "ca"),
        ("--client", "server"),
        ("--client", "ca-key"),
        ("--client", "server-key"),
        ("--server", "a,DNS:b"),
        ("--days", "0"),
        ("-h",),
    ],
)
def test_what_is_no_name_is_refused_and_nothing_is_written(tmp_path: Path, options: tuple[str, ...]) -> None:
    with pytest.raises(subprocess.CalledProcessError):
        certificates.make(tmp_path / "tls", *options)
    assert not (tmp_path / "tls").exists()
