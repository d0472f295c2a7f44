from __future__ import annotations

import time
from typing import Any

import pytest

from densescan._settings import Deadline, check_threshold, check_timeout, check_version, resolve_url
from densescan.tasks import MRI, XRAY


def test_the_address_is_the_argument_then_the_variable_then_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DENSESCAN_URL", raising=False)
    assert resolve_url(None) == "localhost:8001"
    monkeypatch.setenv("DENSESCAN_URL", "gpu-box:9001")
    assert resolve_url(None) == "gpu-box:9001"
    assert resolve_url("other:1") == "other:1"


@pytest.mark.parametrize(
    "url", ["http://localhost:8000", "https://triton", "grpc://triton:8001", "grpcs://triton:8001"]
)
def test_a_web_address_is_refused_with_the_form_that_is_expected(url: str) -> None:
    with pytest.raises(ValueError, match="give host:port of the gRPC endpoint"):
        resolve_url(url)


@pytest.mark.parametrize("url", ["gpu-box", "gpu-1:8001,gpu-2", "gpu-box:", "[::1]", "dns:///gpu", "unix-box"])
def test_an_address_without_a_port_is_refused_and_not_taken_for_port_443(url: str) -> None:
    with pytest.raises(ValueError, match=r"does not end with a port: .*:8001"):
        resolve_url(url)


def test_an_address_with_something_behind_the_port_is_refused_with_the_one_that_is_meant() -> None:
    with pytest.raises(ValueError, match=r"is usually gpu-box:9001$"):
        resolve_url("gpu-box:9001/")


def test_a_port_that_there_is_not_is_refused_and_not_taken_for_another() -> None:
    assert resolve_url("gpu-box:65535") == "gpu-box:65535"
    for url in ("gpu-1:8001,gpu-2:65536", "unixbox:99999"):
        with pytest.raises(ValueError, match="ports go up to 65535"):
            resolve_url(url)


@pytest.mark.parametrize(
    "url", ["gpu-1:8001, gpu-2:8001,", "dns:///gpu:8001", "[::1]:8001", "unix:/tmp/triton", "vsock:3:99999"]
)
def test_every_form_of_address_is_taken_as_it_is(url: str) -> None:
    assert resolve_url(url) == url


@pytest.mark.parametrize("timeout_s", [0, -1, float("nan"), float("inf")])
def test_a_time_limit_is_positive_and_finite(timeout_s: float) -> None:
    with pytest.raises(ValueError, match="timeout_s"):
        check_timeout(timeout_s)


def test_an_endless_time_limit_is_one_that_grpc_takes() -> None:
    assert Deadline(1e300).remaining_s() == 1e9


@pytest.mark.parametrize("threshold", [-0.01, 1.01, float("nan")])
def test_a_threshold_is_a_probability(threshold: float) -> None:
    with pytest.raises(ValueError, match="expected a probability"):
        check_threshold(XRAY, threshold)


def test_a_task_without_a_positive_label_takes_no_threshold() -> None:
    assert check_threshold(MRI, None) is None
    with pytest.raises(ValueError, match="has no threshold"):
        check_threshold(MRI, 0.5)


@pytest.mark.parametrize("version", ["latest", "-1", "1.0", 2, None])
def test_a_version_is_a_whole_number_as_text(version: Any) -> None:
    with pytest.raises(ValueError, match="model_version"):
        check_version(version)


def test_requests_of_one_call_share_its_time() -> None:
    deadline = Deadline(0.05)
    assert 0 < deadline.remaining_s() <= 0.05
    time.sleep(0.06)
    assert deadline.remaining_s() == 0.001
