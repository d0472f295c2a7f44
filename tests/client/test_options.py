from __future__ import annotations

import inspect
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from densescan import Client
from densescan._options import OPTIONS, Options
from densescan._targets import channel_options, credentials, target
from densescan.errors import ServerUnavailable
from densescan.phantoms import draw_phantom


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in OPTIONS.values():
        monkeypatch.delenv(variable, raising=False)


def test_every_argument_of_a_client_has_its_variable() -> None:
    arguments = list(inspect.signature(Client).parameters)
    assert arguments == list(OPTIONS) == list(Options.__dataclass_fields__)


@pytest.mark.parametrize(
    ("name", "text", "value", "default"),
    [
        ("url", "gpu:9001", "gpu:9001", "localhost:8001"),
        ("timeout_s", "2.5", 2.5, 10.0),
        ("retries", "7", 7, 2),
        ("retry_overloaded", "yes", True, False),
        ("hold_back", "no", False, True),
        ("tls", "1", True, False),
        ("ca_certificate", "ca.pem", "ca.pem", None),
        ("server_name", "triton.internal", "triton.internal", None),
        ("metadata", "Authorization=Bearer x=y, tenant=a", {"authorization": "Bearer x=y", "tenant": "a"}, {}),
        ("keepalive_s", "5", 5.0, 30.0),
        ("max_pixels", "1000", 1000, 50_000_000),
        ("max_file_bytes", "2000", 2000, 64 * 2**20),
    ],
)
def test_an_option_is_the_argument_then_the_variable_then_the_default(
    monkeypatch: pytest.MonkeyPatch, name: str, text: str, value: Any, default: Any
) -> None:
    assert getattr(Options.of(), name) == default
    monkeypatch.setenv(OPTIONS[name], text)
    assert getattr(Options.of(), name) == value
    assert getattr(Options.of(**{name: value}), name) == value
    monkeypatch.setenv(OPTIONS[name], " ")
    assert getattr(Options.of(), name) == default


@pytest.mark.parametrize(
    ("variable", "text", "expected"),
    [
        ("DENSESCAN_TIMEOUT_S", "soon", "expected a number"),
        ("DENSESCAN_RETRIES", "2.5", "expected a whole number"),
        ("DENSESCAN_TLS", "maybe", "expected true or false"),
        ("DENSESCAN_METADATA", "token", "expected name=value"),
        ("DENSESCAN_RETRIES", "-1", "retries is -1; expected 0 or more"),
        ("DENSESCAN_KEEPALIVE_S", "0", "keepalive_s is 0.0; expected 1 or more"),
        ("DENSESCAN_TIMEOUT_S", "inf", "timeout_s"),
    ],
)
def test_a_wrong_variable_is_named(monkeypatch: pytest.MonkeyPatch, variable: str, text: str, expected: str) -> None:
    monkeypatch.setenv(variable, text)
    with pytest.raises(ValueError, match=expected):
        Client()


@pytest.mark.parametrize("seconds", [float("inf"), float("nan")])
def test_a_number_that_is_not_finite_is_refused(seconds: float) -> None:
    with pytest.raises(ValueError, match="keepalive_s is"):
        Options.of(keepalive_s=seconds)


def test_blanks_around_a_name_and_its_value_are_none_of_the_metadata(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DENSESCAN_METADATA", " tenant = a , authorization = Bearer x ,")
    assert Options.of().metadata == {"tenant": "a", "authorization": "Bearer x"}


def test_metadata_that_cannot_be_read_is_told_without_its_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DENSESCAN_METADATA", "authorization=Bearer s3cr3t,more")
    with pytest.raises(ValueError, match="DENSESCAN_METADATA cannot be read; expected name=value") as caught:
        Client()
    assert "s3cr3t" not in str(caught.value)


def test_half_of_a_client_certificate_is_refused() -> None:
    with pytest.raises(ValueError, match="belong together"):
        Client(client_certificate="client.pem")


def test_half_of_a_client_certificate_is_refused_whichever_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="belong together"):
        Client(client_key="client-key.pem")
    monkeypatch.setenv("DENSESCAN_CLIENT_KEY", "client-key.pem")
    assert Options.of(client_certificate="client.pem").client_key == "client-key.pem"


def test_a_certificate_implies_tls_unless_it_is_turned_off() -> None:
    assert Options.of(ca_certificate=Path("ca.pem")).tls
    assert not Options.of(ca_certificate="ca.pem", tls=False).tls


def test_a_certificate_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"ca_certificate .*nowhere\.pem cannot be read"):
        credentials(Options.of(ca_certificate=tmp_path / "nowhere.pem"))


def test_metadata_of_a_function_is_asked_for_each_request() -> None:
    tokens = iter(["one", "two"])
    options = Options.of(metadata=lambda: {"Authorization": next(tokens)})
    assert [options.headers() for _ in range(2)] == [{"authorization": "one"}, {"authorization": "two"}]


def test_the_metadata_of_a_call_comes_before_the_clients() -> None:
    options = Options.of(metadata={"Authorization": "client", "tenant": "a"})
    assert options.headers({"authorization": "call"}) == {"authorization": "call", "tenant": "a"}
    assert options.headers() == {"authorization": "client", "tenant": "a"}


@pytest.mark.parametrize(
    "metadata",
    [
        {"authorization": "secret\n"},
        {"authorization": "sécret"},
        {"authorization": 7},
        {"two words": "secret"},
        {"": "secret"},
        {"grpc-timeout": "secret"},
        {"token-bin": "secret"},
    ],
)
def test_metadata_that_cannot_be_sent_is_named_and_its_value_is_not_shown(metadata: Any) -> None:
    """gRPC's own message would show it."""
    client = Client("127.0.0.1:1")
    for give in (
        lambda: Client(metadata=metadata),
        lambda: client.is_ready(metadata=metadata),
        lambda: Client("127.0.0.1:1", metadata=lambda: metadata).status(),
    ):
        with pytest.raises(ValueError, match=r"^metadata ") as caught:
            give()
        assert repr(next(iter(metadata))) in str(caught.value)
        assert "secret" not in str(caught.value)


def test_a_list_of_servers_becomes_addresses_that_take_turns() -> None:
    assert target("gpu:8001", 5) == "gpu:8001"
    assert target("127.0.0.1:8001,127.0.0.1:8002", 1e12).startswith("ipv4:")  # longer than a thread can wait
    assert target("dns:///gpu:8001", 5) == "dns:///gpu:8001"
    assert target("127.0.0.2:8001, 127.0.0.1:8002,", 5) == "ipv4:127.0.0.1:8002,127.0.0.2:8001"
    assert target("[::1]:8001,[::1]:8002", 5) == "ipv6:[::1]:8001,[::1]:8002"
    assert dict(channel_options(Options.of()))["grpc.lb_policy_name"] == "round_robin"


@pytest.fixture
def _no_dns(monkeypatch: pytest.MonkeyPatch) -> None:
    """Names in .invalid fail at once, and no server is asked for them, which might not answer."""
    ask = socket.getaddrinfo

    def getaddrinfo(host: str, *arguments: Any, **options: Any) -> Any:
        if host.endswith(".invalid"):
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return ask(host, *arguments, **options)

    monkeypatch.setattr("socket.getaddrinfo", getaddrinfo)


@pytest.mark.usefixtures("_no_dns")
def test_a_list_goes_on_without_the_names_that_do_not_resolve() -> None:
    assert target("127.0.0.1:8001,no-such-host.invalid:8001", 5) == "ipv4:127.0.0.1:8001"
    with pytest.raises(ServerUnavailable, match="none of the names resolves") as caught:
        target("no-such-host.invalid:8001,neither-this.invalid:8001", 5)
    assert caught.value.transient


@pytest.mark.usefixtures("_no_dns")
def test_a_name_that_is_left_out_is_said_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    target("127.0.0.1:8001,no-such-host.invalid:8001", 5)
    assert "no-such-host.invalid:8001 does not resolve, and is left out" in caplog.text


class SlowResolver:
    """Finds nothing, and that only once it is let go, or after 10 s."""

    def __init__(self) -> None:
        self.asked, self.let_go, self.done = threading.Event(), threading.Event(), threading.Event()

    def getaddrinfo(self, *_: Any, **__: Any) -> list[Any]:
        self.asked.set()
        self.let_go.wait(10)
        self.done.set()
        return []


@pytest.fixture
def slow_resolver(monkeypatch: pytest.MonkeyPatch) -> Iterator[SlowResolver]:
    resolver = SlowResolver()
    monkeypatch.setattr("socket.getaddrinfo", resolver.getaddrinfo)
    yield resolver
    resolver.let_go.set()


def test_a_slow_resolver_does_not_hold_up_a_call_beyond_its_time(slow_resolver: SlowResolver) -> None:
    with pytest.raises(ServerUnavailable, match=r"did not resolve within 0\.[012]"):  # what is left when it is asked
        Client("gpu-1:8001,gpu-2:8001", timeout_s=0.2).classify_mri(draw_phantom("mri", size=128))
    assert not slow_resolver.done.is_set()


def test_a_slow_resolver_does_not_keep_a_client_from_being_closed(slow_resolver: SlowResolver) -> None:
    client = Client("gpu-1:8001,gpu-2:8001")
    caller = threading.Thread(target=client.is_ready, kwargs={"timeout_s": 60}, daemon=True)
    caller.start()
    assert slow_resolver.asked.wait(10)
    client.close()
    assert not slow_resolver.done.is_set()
    slow_resolver.let_go.set()
    caller.join()


def test_a_pause_that_grpc_cannot_count_is_its_longest() -> None:
    assert dict(channel_options(Options.of(keepalive_s=1e12)))["grpc.keepalive_time_ms"] == 2**31 - 1


def test_the_certificate_of_a_list_of_servers_is_checked_by_the_first_name() -> None:
    plain, listed = "gpu-1:8001", "gpu-1:8001,gpu-2:8001"
    assert "grpc.default_authority" not in dict(channel_options(Options.of(url=plain, tls=True)))
    assert dict(channel_options(Options.of(url=listed, tls=True)))["grpc.default_authority"] == "gpu-1"
    named = dict(channel_options(Options.of(url=listed, server_name="triton")))
    assert named["grpc.ssl_target_name_override"] == "triton"


def test_credentials_never_show_in_the_repr() -> None:
    assert "secret" not in repr(Client(metadata={"authorization": "secret"}))


def test_the_trace_that_the_caller_is_in_goes_along() -> None:
    trace = pytest.importorskip("opentelemetry.trace")  # it comes with locust, which the tests have
    context = trace.SpanContext(0xABC, 0xDEF, is_remote=False, trace_flags=trace.TraceFlags(1))
    options = Options.of(metadata={"authorization": "x"})
    with trace.use_span(trace.NonRecordingSpan(context)):
        assert options.headers()["traceparent"] == f"00-{0xABC:032x}-{0xDEF:016x}-01"
    assert options.headers() == {"authorization": "x"}
