"""The gateway's own config in a real nginx, before the real server: what it lets through, and what it refuses how."""

from __future__ import annotations

import io
import os
import queue
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import kubernetes_validate
import numpy as np
import pytest
import yaml
from PIL import Image
from tritonclient.grpc import InferenceServerClient, InferInput, service_pb2, service_pb2_grpc
from tritonclient.utils import InferenceServerException

from densescan import Client
from densescan.errors import InferenceFailed, ServerUnavailable
from densescan.phantoms import draw_phantom
from server import EmbeddedTriton
from server.environment import free_ports
from tests.server import tiny

from . import certificates
from .conftest import Container
from .images import ROOT
from .test_kubernetes import VERSIONS, kustomize, one

GATEWAY = ROOT / "docker/gateway"
COMPOSE, COMPOSE_TLS = ROOT / "docker/compose.gateway.yaml", ROOT / "docker/compose.gateway.tls.yaml"
SERVICE: dict[str, Any] = yaml.safe_load(COMPOSE.read_text())["services"]["gateway"]
SETTINGS = {name: re.sub(r"\$\{\w+:-(.*)\}", r"\1", value) for name, value in SERVICE["environment"].items()}
"""The values of compose, the defaults where a person may set them."""
MIB = 2**20


@dataclass
class Gateway:
    """A running nginx: its address, and the process."""

    url: str
    process: subprocess.Popen[bytes]


def render(folder: Path, settings: dict[str, str]) -> Path:
    """Do what the image's entry point does: the templates with the variables in place, and nothing else replaced."""
    names = [name for name in settings if re.search(SERVICE["environment"]["NGINX_ENVSUBST_FILTER"], name)]
    for template in GATEWAY.glob("*.template"):
        text = re.sub(rf"\$\{{({'|'.join(names)})\}}", lambda found: settings[found[1]], template.read_text())
        assert "${" not in text, f"{template.name} has a variable that compose does not set"
        (folder / template.stem).write_text(text)
    return folder


@pytest.fixture(scope="module")
def start_gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Gateway]]:
    """Starts nginx before a server's address; settings are named without DENSESCAN_GATEWAY_."""
    nginx = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
    if nginx is None:
        pytest.skip("nginx is missing: apt-get install nginx-light")
    started: list[subprocess.Popen[bytes]] = []

    def start(server: str, replace: tuple[str, str] | None = None, **changed: str) -> Gateway:
        (port,) = free_ports("127.0.0.1", 1)
        own = {"SERVER": server, "LISTEN": f"127.0.0.1:{port}", **changed}
        settings = SETTINGS | {f"DENSESCAN_GATEWAY_{name}": value for name, value in own.items()}
        folder = render(tmp_path_factory.mktemp("gateway"), {**settings, "NGINX_LOCAL_RESOLVERS": "127.0.0.1"})
        if replace:
            text = (folder / "nginx.conf").read_text()
            assert replace[0] in text
            (folder / "nginx.conf").write_text(text.replace(*replace))
        # As in compose, but for the folder.
        options = ["-p", f"{folder}/", *SERVICE["command"][3:]]
        guard = [sys.executable, "-I", str(ROOT / "server/_exec_with_parent.py"), str(os.getpid())]
        with (folder / "log").open("wb") as log:
            process = subprocess.Popen([*guard, nginx, *options], stdout=log, stderr=log)
        started.append(process)
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline and process.poll() is None:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    return Gateway(f"localhost:{port}", process)
            time.sleep(0.05)
        pytest.fail((folder / "log").read_text())

    yield start
    for process in started:
        process.terminate()
        process.wait(20)


@pytest.fixture(scope="module")
def container(start_container: Callable[..., Container]) -> Container:
    return start_container()


@pytest.fixture(scope="module")
def gateway(start_gateway: Callable[..., Gateway], container: Container) -> Gateway:
    """With the limits of compose."""
    return start_gateway(f"127.0.0.1:{container.grpc}")


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return certificates.make(tmp_path_factory.mktemp("ours"), "--client", "radiology")


@pytest.fixture(scope="module")
def mutual(start_gateway: Callable[..., Gateway], container: Container, ours: Path) -> Gateway:
    return start_gateway(f"127.0.0.1:{container.grpc}", TLS=str(ours), **tls_settings())


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What is applied: the overlay for the CPU with the component."""
    copy = shutil.copytree(ROOT / "docker", tmp_path_factory.mktemp("k8s") / "docker")
    folder = copy / "k8s/overlays/cpu-gateway"
    folder.mkdir()
    kustomization = {"resources": ["../cpu"], "components": ["../../components/gateway"]}
    (folder / "kustomization.yaml").write_text(yaml.safe_dump(kustomization))
    return kustomize(folder)


def tls_settings() -> dict[str, str]:
    """What the TLS variant sets, by its short names."""
    changed: dict[str, str] = yaml.safe_load(COMPOSE_TLS.read_text())["services"]["gateway"]["environment"]
    return {name.removeprefix("DENSESCAN_GATEWAY_"): value for name, value in changed.items()}


def tensor(pictures: np.ndarray) -> InferInput:
    made = InferInput("image", list(pictures.shape), "UINT8")
    made.set_data_from_numpy(pictures)
    return made


def ask(client: InferenceServerClient, seed: int = 0) -> None:
    """One inference; anything but the right answer raises."""
    pictures = tiny.pictures(2, seed)
    answer = client.infer("tiny", [tensor(pictures)], client_timeout=20).as_numpy("probabilities")
    assert answer == pytest.approx(tiny.expected_probabilities(pictures), abs=1e-5)


def refusal(client: InferenceServerClient, pictures: np.ndarray) -> tuple[str, str]:
    """The status and the message that a request is refused with."""
    with pytest.raises(InferenceServerException) as refused:
        client.infer("tiny", [tensor(pictures)], client_timeout=60)
    return refused.value.status(), refused.value.message()


def call(url: str, path: str, request: bytes = b"") -> bytes:
    with grpc.insecure_channel(url) as channel:
        answer: bytes = channel.unary_unary(path)(request, timeout=20)
    return answer


def family(pid: int) -> list[int]:
    """A process and those that it has started, as far as they are alive."""
    children = [
        int(child) for path in Path(f"/proc/{pid}/task").glob("*/children") for child in path.read_text().split()
    ]
    return [pid, *(one for child in children for one in family(child))]


def reset_peak(pid: int) -> None:
    for process in family(pid):
        Path(f"/proc/{process}/clear_refs").write_text("5")


def peak_mib(pid: int) -> float:
    """The most memory that the processes have had since the reset, each at its own moment."""
    texts = [Path(f"/proc/{process}/status").read_text() for process in family(pid)]
    return sum(int(found[1]) for text in texts if (found := re.search(r"VmHWM:\s+(\d+) kB", text))) / 1024


def growth_mib(pids: list[int], act: Callable[[], Any]) -> float:
    for pid in pids:
        reset_peak(pid)
    before = sum(map(peak_mib, pids))
    act()
    return sum(map(peak_mib, pids)) - before


@pytest.mark.triton
class TestWithAServer:
    def test_callers_at_one_time_each_get_their_own_answer(self, gateway: Gateway) -> None:
        with InferenceServerClient(gateway.url) as client, ThreadPoolExecutor(16) as pool:
            list(pool.map(lambda seed: ask(client, seed), range(200)))

    def test_what_else_callers_ask_is_answered(self, gateway: Gateway) -> None:
        with InferenceServerClient(gateway.url) as client:
            assert client.is_server_ready()
            assert client.is_model_ready("tiny")
            assert client.get_model_config("tiny").config.name == "tiny"

    def test_grpcs_own_health_check_is_answered(self, gateway: Gateway) -> None:
        assert call(gateway.url, "/grpc.health.v1.Health/Check") == b"\x08\x01"  # SERVING

    def test_the_servers_own_errors_come_through_as_they_are(self, gateway: Gateway, container: Container) -> None:
        seen = []
        for url in (gateway.url, f"127.0.0.1:{container.grpc}"):
            with InferenceServerClient(url) as client, pytest.raises(InferenceServerException) as refused:
                client.infer("x" * 6_000, [tensor(tiny.pictures(1))], client_timeout=20)
            seen.append((refused.value.status(), refused.value.message()))
        assert seen[0] == seen[1]

    def test_a_request_over_the_limit_is_refused_soon_and_small_ones_go_on(self, gateway: Gateway) -> None:
        with InferenceServerClient(gateway.url) as client:
            ask(client)
            begun = time.monotonic()
            status, message = refusal(client, np.zeros((1, 48, MIB, 1), np.uint8))
            assert time.monotonic() - begun < 10
            assert status == "StatusCode.RESOURCE_EXHAUSTED"
            assert message == "the request is larger than max: the gateway lets 16m through"
            ask(client)

    @pytest.mark.parametrize("size", [15, 17])
    def test_the_limit_is_where_it_is_said_to_be(self, gateway: Gateway, size: int) -> None:
        with InferenceServerClient(gateway.url) as client:
            status, message = refusal(client, np.zeros((1, size, MIB, 1), np.uint8))
        # The server itself says no to the smaller one, whose shape it does not know.
        assert ("INVALID_ARGUMENT" in status, "unexpected shape" in message) == (size < 16, size < 16)

    def test_the_server_does_not_grow_by_what_is_refused(self, gateway: Gateway, container: Container) -> None:
        large = np.zeros((1, 96, MIB, 1), np.uint8)
        both = [container.process.pid, gateway.process.pid]
        with InferenceServerClient(gateway.url) as client:
            through = growth_mib(both, lambda: refusal(client, large))
        with InferenceServerClient(f"127.0.0.1:{container.grpc}") as client:
            direct = growth_mib(both, lambda: refusal(client, large))
        assert through < 48  # the 16 that come by before the limit is reached, and what gRPC may copy
        assert direct > 96  # or this measures nothing

    def test_a_request_that_is_large_when_unpacked_is_refused(self, gateway: Gateway, container: Container) -> None:
        """100 MiB of zeros are 100 kB on the wire, which is under every limit there."""
        request = service_pb2.ModelInferRequest(model_name="tiny")
        request.inputs.add(name="image", datatype="UINT8", shape=[1, 100, MIB, 1])
        request.raw_input_contents.append(bytes(100 * MIB))
        with grpc.insecure_channel(gateway.url, [("grpc.max_send_message_length", -1)]) as channel:
            stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)

            def packed() -> None:
                with pytest.raises(grpc.RpcError) as refused:
                    stub.ModelInfer(request, timeout=60, compression=grpc.Compression.Gzip)
                assert refused.value.code() == grpc.StatusCode.UNIMPLEMENTED
                assert refused.value.details() == "the gateway takes no compressed messages"

            assert growth_mib([container.process.pid, gateway.process.pid], packed) < 48

    def test_one_address_has_no_more_running_than_it_may(
        self, start_gateway: Callable[..., Gateway], container: Container
    ) -> None:
        narrow = start_gateway(f"127.0.0.1:{container.grpc}", RUNNING="1")
        answers: queue.Queue[Any] = queue.Queue()
        with InferenceServerClient(narrow.url) as client:
            client.start_stream(lambda result, error: answers.put(error))
            client.async_stream_infer("tiny", [tensor(tiny.pictures(1))])
            assert answers.get(timeout=20) is None  # and it stays open
            assert refusal(client, tiny.pictures(1)) == (
                "StatusCode.RESOURCE_EXHAUSTED",
                "too many requests at the gateway",
            )
            client.stop_stream()
            ask(client)

    @pytest.mark.parametrize("limit", ["RUNNING_ALL", "RATE"])
    def test_what_is_too_much_is_refused_and_not_parked(
        self, start_gateway: Callable[..., Gateway], container: Container, limit: str
    ) -> None:
        narrow = start_gateway(f"127.0.0.1:{container.grpc}", **{limit: "1"})

        def outcome(seed: int) -> str:
            try:
                ask(client, seed)
            except InferenceServerException as error:
                return f"{error.status()} {error.message()}"
            return "answered"

        with InferenceServerClient(narrow.url) as client, ThreadPoolExecutor(32) as pool:
            outcomes = set(pool.map(outcome, range(100)))
        assert outcomes == {"answered", "StatusCode.RESOURCE_EXHAUSTED too many requests at the gateway"}

    def test_other_services_are_not_there(self, gateway: Gateway) -> None:
        with pytest.raises(grpc.RpcError) as refused:
            call(gateway.url, "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo")
        assert refused.value.code() is grpc.StatusCode.UNIMPLEMENTED

    def test_metadata_without_end_end_their_callers_connection_and_nobody_elses(self, gateway: Gateway) -> None:
        # Another channel argument, or gRPC would let both use one connection.
        with InferenceServerClient(gateway.url, channel_args=[("grpc.use_local_subchannel_pool", 1)]) as other:
            ask(other)
            with InferenceServerClient(gateway.url) as client, pytest.raises(InferenceServerException):
                client.is_server_ready(headers={"x-long": "x" * 100_000}, client_timeout=20)
            ask(other)


@pytest.mark.triton
class TestTls:
    def ask(self, mutual: Gateway, ours: Path, identity: tuple[Path, Path] | None) -> None:
        proof = {} if identity is None else {"certificate_chain": str(identity[0]), "private_key": str(identity[1])}
        with InferenceServerClient(mutual.url, ssl=True, root_certificates=str(ours / "ca.pem"), **proof) as client:
            ask(client)

    def test_the_right_certificate_gets_right_answers(self, mutual: Gateway, ours: Path) -> None:
        self.ask(mutual, ours, (ours / "radiology.pem", ours / "radiology-key.pem"))

    @pytest.mark.parametrize("case", ["no certificate", "another authority's", "expired", "the server's own"])
    def test_nobody_else_is_answered_and_each_is_told_why(
        self, mutual: Gateway, ours: Path, tmp_path: Path, case: str
    ) -> None:
        identity = None
        if case == "another authority's":
            theirs = certificates.make(tmp_path, "--client", "radiology")
            identity = theirs / "radiology.pem", theirs / "radiology-key.pem"
        elif case == "expired":
            identity = certificates.make_expired_client(ours, tmp_path)
        elif case == "the server's own":
            identity = ours / "server.pem", ours / "server-key.pem"
        with pytest.raises(InferenceServerException, match=r"UNAUTHENTICATED.*asks for a client certificate"):
            self.ask(mutual, ours, identity)

    def test_plain_text_is_not_answered(self, mutual: Gateway) -> None:
        with InferenceServerClient(mutual.url) as client, pytest.raises(InferenceServerException, match="UNAVAILABLE"):
            ask(client)

    def test_the_limit_holds_with_tls_as_well(self, mutual: Gateway, ours: Path) -> None:
        proof = {"certificate_chain": str(ours / "radiology.pem"), "private_key": str(ours / "radiology-key.pem")}
        with InferenceServerClient(mutual.url, ssl=True, root_certificates=str(ours / "ca.pem"), **proof) as client:
            assert refusal(client, np.zeros((1, 32, MIB, 1), np.uint8))[0] == "StatusCode.RESOURCE_EXHAUSTED"


class TestWithoutAServer:
    def test_the_sdk_is_told_that_no_server_is_there(self, start_gateway: Callable[..., Gateway]) -> None:
        (nobody,) = free_ports("127.0.0.1", 1)
        with (
            Client(start_gateway(f"127.0.0.1:{nobody}").url, retries=0) as client,
            pytest.raises(ServerUnavailable, match="no tritonserver answers the gateway") as refused,
        ):
            client.classify_xray(draw_phantom("xray"))
        assert refused.value.transient

    def test_the_sdk_is_told_that_a_server_does_not_answer(self, start_gateway: Callable[..., Gateway]) -> None:
        with socket.create_server(("127.0.0.1", 0)) as silent:
            url = start_gateway(f"127.0.0.1:{silent.getsockname()[1]}", ("read_timeout 60s", "read_timeout 1s")).url
            with InferenceServerClient(url) as client, pytest.raises(InferenceServerException) as refused:
                client.infer("tiny", [tensor(tiny.pictures(1))], client_timeout=20)
        assert refused.value.status() == "StatusCode.DEADLINE_EXCEEDED"
        assert refused.value.message() == "the gateway waited too long, for the request or for its answer"


@pytest.mark.triton
@pytest.mark.slow
class TestWithTheReleasedModels:
    def test_an_answer_through_the_gateway_is_the_direct_one(
        self, start_gateway: Callable[..., Gateway], triton: EmbeddedTriton
    ) -> None:
        picture = draw_phantom("xray")
        answers = []
        for url in (triton.grpc_url, start_gateway(triton.grpc_url).url):
            with Client(url, timeout_s=60) as client:
                answers.append(client.classify_xray(picture))
                assert client.status().ready
        direct, through = answers
        assert (through.label, through.threshold, through.model_version) == (
            direct.label,
            direct.threshold,
            direct.model_version,
        )
        assert through.probabilities == pytest.approx(direct.probabilities, abs=1e-6)

    def test_a_film_of_nine_megapixels_passes_as_a_file(
        self, start_gateway: Callable[..., Gateway], triton: EmbeddedTriton
    ) -> None:
        noise = np.random.default_rng(1).integers(0, 256, (3000, 3000), np.uint8)  # what compresses worst
        buffer = io.BytesIO()
        Image.fromarray(noise).save(buffer, "JPEG", quality=90)
        assert buffer.tell() > 5 * MIB
        encoded = InferInput("encoded_image", [1, 1], "BYTES")
        encoded.set_data_from_numpy(np.array([[buffer.getvalue()]], dtype=object))
        answers = []
        for url in (triton.grpc_url, start_gateway(triton.grpc_url).url):
            with InferenceServerClient(url) as client:
                answers.append(client.infer("xray_classifier", [encoded], client_timeout=60).as_numpy("probabilities"))
        np.testing.assert_allclose(answers[1], answers[0], atol=1e-6)

    def test_the_sdk_raises_its_own_error_for_a_request_over_the_limit(
        self, start_gateway: Callable[..., Gateway], triton: EmbeddedTriton
    ) -> None:
        with (
            Client(start_gateway(triton.grpc_url, MAX_BODY="100k").url, timeout_s=60) as client,
            pytest.raises(InferenceFailed, match="larger than max: the gateway lets 100k through"),
        ):
            client.classify_xray(draw_phantom("xray"))


class TestFiles:
    @pytest.mark.parametrize("path", [COMPOSE, COMPOSE_TLS], ids=lambda path: path.name)
    def test_the_file_follows_the_compose_specification(self, path: Path) -> None:
        command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", str(path)]
        checked = subprocess.run(command, capture_output=True, text=True, timeout=60)
        assert checked.returncode == 0, checked.stdout + checked.stderr

    def test_the_image_is_pinned_and_new_enough_for_resolve(self) -> None:
        version = re.fullmatch(r"nginx:(\d+)\.(\d+)\.(\d+)-alpine", SERVICE["image"])
        assert version is not None
        assert tuple(map(int, version.groups())) >= (1, 27, 3)

    def test_it_can_write_nothing_and_gain_nothing(self) -> None:
        assert SERVICE["read_only"] is True
        assert SERVICE["cap_drop"] == ["ALL"]
        assert "no-new-privileges:true" in SERVICE["security_opt"]
        assert int(SERVICE["user"].split(":")[0]) > 0

    def test_it_is_open_to_this_machine_only_until_somebody_opens_it(self) -> None:
        (port,) = SERVICE["ports"]
        assert re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", port) == "127.0.0.1:8011:8001"

    def test_it_reaches_the_server_by_a_network_and_a_name_of_compose(self) -> None:
        main = yaml.safe_load((ROOT / "docker/compose.yaml").read_text())
        (network,) = SERVICE["networks"]
        name = SETTINGS["DENSESCAN_GATEWAY_SERVER"].split(":")[0]
        assert all(name in main["services"][server]["networks"][network]["aliases"] for server in ("cpu", "gpu"))

    def test_the_templates_use_every_variable_that_is_set(self) -> None:
        used = set(re.findall(r"\$\{(\w+)\}", "".join(path.read_text() for path in GATEWAY.glob("*.template"))))
        assert used - {"NGINX_LOCAL_RESOLVERS"} == {name for name in SETTINGS if name.startswith("DENSESCAN_")}

    def test_tls_secrets_are_the_files_that_the_script_makes_and_the_config_reads(self) -> None:
        tls = yaml.safe_load(COMPOSE_TLS.read_text())
        made = {
            Path(tls["secrets"][s["source"]]["file"]).name: s["target"] for s in tls["services"]["gateway"]["secrets"]
        }
        read = re.findall(r"\$\{DENSESCAN_GATEWAY_TLS\}/([\w.-]+);", (GATEWAY / "tls.conf.template").read_text())
        assert made == {name: name for name in read}
        assert set(read) == {"server.pem", "server-key.pem", "ca.pem"}


class TestKubernetes:
    @pytest.mark.parametrize("version", VERSIONS)
    def test_every_object_follows_the_schema(self, built: list[dict[str, Any]], version: str) -> None:
        for manifest in built:
            kubernetes_validate.validate(manifest, version, strict=True)

    def test_it_runs_what_compose_runs(self, built: list[dict[str, Any]]) -> None:
        pod = one(built, "Deployment", "densescan-gateway")["spec"]["template"]["spec"]
        (container,) = pod["containers"]
        assert (container["image"], container["args"]) == (SERVICE["image"], SERVICE["command"])
        values = {entry["name"]: entry["value"] for entry in container["env"]}
        differing = {name for name in SETTINGS if values[name] != SETTINGS[name]}
        assert values.keys() == SETTINGS.keys()
        assert differing == {"DENSESCAN_GATEWAY_SERVER", "DENSESCAN_GATEWAY_TLS"}
        name, _, namespace = values["DENSESCAN_GATEWAY_SERVER"].split(":")[0].partition(".")
        assert one(built, "Service", name)["spec"]["clusterIP"] == "None"
        assert namespace == "densescan.svc.cluster.local"

    def test_it_mounts_the_templates_that_were_tested(self, built: list[dict[str, Any]]) -> None:
        pod = one(built, "Deployment", "densescan-gateway")["spec"]["template"]["spec"]
        (source,) = [volume["configMap"]["name"] for volume in pod["volumes"] if "configMap" in volume]
        data = one(built, "ConfigMap", source)["data"]
        assert data == {path.name: path.read_text() for path in GATEWAY.glob("*.template")}

    def test_the_pod_is_what_the_restricted_standard_lets_in(self, built: list[dict[str, Any]]) -> None:
        pod = one(built, "Deployment", "densescan-gateway")["spec"]["template"]["spec"]
        (container,) = pod["containers"]
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }

    def test_the_servers_let_it_in_and_its_service_finds_it(self, built: list[dict[str, Any]]) -> None:
        labels = one(built, "Deployment", "densescan-gateway")["spec"]["template"]["metadata"]["labels"]
        (callers,) = one(built, "NetworkPolicy")["spec"]["ingress"][0]["from"]
        assert callers["podSelector"]["matchLabels"].items() <= labels.items()
        assert one(built, "Service", "densescan-gateway")["spec"]["selector"].items() <= labels.items()
        policy = one(built, "NetworkPolicy", "densescan-gateway")["spec"]
        assert policy["podSelector"]["matchLabels"].items() <= labels.items()
        # The servers' own policies and services must not take the gateway for a server.
        assert one(built, "Service", "densescan")["spec"]["selector"].items() - labels.items()
