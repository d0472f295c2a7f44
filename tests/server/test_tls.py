from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from server import EmbeddedTriton, ServerStartError
from server.tls import TlsError, tls_options
from tests.docker import certificates

from . import tiny


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return certificates.make(tmp_path_factory.mktemp("tls"))


def test_no_files_mean_no_tls() -> None:
    assert tls_options() == []


def test_a_client_authority_makes_it_mutual(folder: Path) -> None:
    files = (folder / "server.pem", folder / "server-key.pem")
    assert "--grpc-use-ssl=true" in tls_options(*files)
    mutual = tls_options(*files, folder / "ca.pem")
    assert "--grpc-use-ssl-mutual=true" in mutual
    assert f"--grpc-root-cert={folder / 'ca.pem'}" in mutual
    # Triton takes the one for the other when both are given.
    assert "--grpc-use-ssl=true" not in mutual


@pytest.mark.parametrize("given", [(__file__,), ("", __file__), ("", "", __file__), (__file__, "", __file__)])
def test_half_of_it_is_refused(given: tuple[str, ...]) -> None:
    with pytest.raises(TlsError, match="name both files"):
        tls_options(*given)


def test_a_file_that_is_not_there_stops_the_start_instead_of_serving_without(
    folder: Path, tiny_repository: Path
) -> None:
    triton = EmbeddedTriton(tiny_repository, tls_cert=folder / "server.pem", tls_key=folder / "nowhere.pem")
    with pytest.raises(ServerStartError, match=r"nowhere\.pem cannot be read"):
        triton.start()


@pytest.mark.parametrize("missing", range(3))
def test_each_of_the_files_must_be_a_file_that_can_be_read(
    folder: Path, missing: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = [folder / "server.pem", folder / "server-key.pem", folder / "ca.pem"]
    for wrong in (folder / "nowhere.pem", folder):
        with pytest.raises(TlsError, match=f"^{re.escape(str(wrong))} cannot be read by user"):
            tls_options(*files[:missing], wrong, *files[missing + 1 :])
    monkeypatch.setattr("os.access", lambda path, how: path != files[missing])  # as to an ordinary user
    with pytest.raises(TlsError, match=f"^{re.escape(str(files[missing]))} cannot be read by user"):
        tls_options(*files)


@pytest.mark.parametrize(
    ("key", "client_ca", "told"),
    [
        ("ca-key.pem", "ca.pem", "are no certificate and its key"),
        ("server-key.pem", "server-key.pem", "no certificates"),
        ("empty.pem", "ca.pem", "are no certificate and its key"),
    ],
)
def test_files_that_do_not_belong_together_are_told_before_anything_starts(
    folder: Path, key: str, client_ca: str, told: str
) -> None:
    (folder / "empty.pem").touch()
    with pytest.raises(TlsError, match=told) as refused:
        tls_options(folder / "server.pem", folder / key, folder / client_ca)
    assert "None" not in str(refused.value)


@pytest.mark.triton
def test_the_embedded_server_answers_who_has_a_certificate_and_nobody_else(folder: Path, tiny_repository: Path) -> None:
    from tritonclient.grpc import InferenceServerClient, InferInput
    from tritonclient.utils import InferenceServerException

    files = {
        "tls_cert": folder / "server.pem",
        "tls_key": folder / "server-key.pem",
        "tls_client_ca": folder / "ca.pem",
    }
    pictures = tiny.pictures(2)
    image = InferInput("image", list(pictures.shape), "UINT8")
    image.set_data_from_numpy(pictures)
    identity = {"certificate_chain": str(folder / "client.pem"), "private_key": str(folder / "client-key.pem")}
    with EmbeddedTriton(tiny_repository, models=["tiny"], **files) as triton:
        with InferenceServerClient(
            triton.grpc_url, ssl=True, root_certificates=str(folder / "ca.pem"), **identity
        ) as client:
            answer = client.infer("tiny", [image], client_timeout=5).as_numpy("probabilities")
        assert np.allclose(answer, tiny.expected_probabilities(pictures), atol=1e-5)
        for tls in ({}, {"ssl": True, "root_certificates": str(folder / "ca.pem")}):
            with (
                InferenceServerClient(triton.grpc_url, **tls) as client,
                pytest.raises(InferenceServerException, match=r"UNAVAILABLE|DEADLINE_EXCEEDED"),
            ):
                client.infer("tiny", [image], client_timeout=5)
