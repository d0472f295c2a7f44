"""The CPU image's files with certificates: who gets an answer, and who does not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from tritonclient.grpc import InferenceServerClient, InferInput
from tritonclient.utils import InferenceServerException

from tests.server import tiny

from . import certificates
from .conftest import Container

pytestmark = pytest.mark.triton


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return certificates.make(tmp_path_factory.mktemp("ours"), "--client", "radiology")


@pytest.fixture(scope="module")
def theirs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Certificates of the same names from another authority."""
    return certificates.make(tmp_path_factory.mktemp("theirs"), "--client", "radiology")


@pytest.fixture(scope="module")
def mutual(start_container: Callable[..., Container], ours: Path) -> Container:
    return start_container(
        {
            "DENSESCAN_TLS_CERT": str(ours / "server.pem"),
            "DENSESCAN_TLS_KEY": str(ours / "server-key.pem"),
            "DENSESCAN_TLS_CLIENT_CA": str(ours / "ca.pem"),
        }
    )


@pytest.fixture(scope="module")
def one_sided(start_container: Callable[..., Container], ours: Path) -> Container:
    return start_container(
        {"DENSESCAN_TLS_CERT": str(ours / "server.pem"), "DENSESCAN_TLS_KEY": str(ours / "server-key.pem")}
    )


def ask(container: Container, host: str = "localhost", **tls: object) -> None:
    """One inference, its answer checked; anything but the right answer raises."""
    pictures = tiny.pictures(2)
    image = InferInput("image", list(pictures.shape), "UINT8")
    image.set_data_from_numpy(pictures)
    with InferenceServerClient(f"{host}:{container.grpc}", **tls) as client:
        answer = client.infer("tiny", [image], client_timeout=5).as_numpy("probabilities")
    assert answer == pytest.approx(tiny.expected_probabilities(pictures), abs=1e-5)


def identity(folder: Path, name: str) -> dict[str, object]:
    return {"private_key": str(folder / f"{name}-key.pem"), "certificate_chain": str(folder / f"{name}.pem")}


def trusting(folder: Path) -> dict[str, object]:
    return {"ssl": True, "root_certificates": str(folder / "ca.pem")}


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
def test_the_right_certificate_gets_right_answers(mutual: Container, ours: Path, host: str) -> None:
    ask(mutual, host, **trusting(ours), **identity(ours, "radiology"))


@pytest.mark.parametrize(
    "case",
    ["plaintext", "no certificate", "another authority's", "expired", "somebody else's key", "the server's own"],
)
def test_nobody_else_is_answered(mutual: Container, ours: Path, theirs: Path, tmp_path: Path, case: str) -> None:
    tls: dict[str, object] = {**trusting(ours)}
    if case == "plaintext":
        tls = {}
    elif case == "another authority's":
        tls |= identity(theirs, "radiology")
    elif case == "expired":
        certificate, key = certificates.make_expired_client(ours, tmp_path)
        tls |= {"certificate_chain": str(certificate), "private_key": str(key)}
    elif case == "somebody else's key":
        tls |= {**identity(ours, "radiology"), "private_key": str(theirs / "radiology-key.pem")}
    elif case == "the server's own":
        tls |= identity(ours, "server")
    with pytest.raises(InferenceServerException, match=r"UNAVAILABLE|DEADLINE_EXCEEDED"):
        ask(mutual, **tls)


def test_a_caller_notices_a_server_of_another_authority(mutual: Container, ours: Path, theirs: Path) -> None:
    with pytest.raises(InferenceServerException, match="UNAVAILABLE"):
        ask(mutual, **trusting(theirs), **identity(ours, "radiology"))


def test_a_caller_notices_a_server_of_another_name(mutual: Container, ours: Path) -> None:
    with pytest.raises(InferenceServerException, match="UNAVAILABLE"):
        # The same machine by an address that the certificate does not name.
        ask(mutual, "127.0.0.2", **trusting(ours), **identity(ours, "radiology"))


def test_the_server_goes_on_after_the_wrong_callers(mutual: Container, ours: Path) -> None:
    assert mutual.healthy()
    ask(mutual, **trusting(ours), **identity(ours, "radiology"))


def test_without_a_client_authority_every_caller_gets_tls_and_none_without(one_sided: Container, ours: Path) -> None:
    ask(one_sided, **trusting(ours))
    with pytest.raises(InferenceServerException, match=r"UNAVAILABLE|DEADLINE_EXCEEDED"):
        ask(one_sided)
