from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from .images import ROOT

K8S = ROOT / "docker/k8s"
VERSIONS = ("1.28", "1.31", "1.34", "1.37")
OVERLAYS = ("cpu", "gpu")
COMPONENTS = ("tls", "tracing")
POD_LABELS = {"app.kubernetes.io/name": "densescan"}
Manifest = dict[str, Any]


def kustomize(folder: Path) -> list[Manifest]:
    if shutil.which("kubectl"):
        command = ["kubectl", "kustomize", str(folder)]
    elif shutil.which("kustomize"):
        command = ["kustomize", "build", str(folder)]
    else:
        pytest.skip("neither kubectl nor kustomize is installed")
    built = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert built.returncode == 0, built.stderr
    assert built.stderr == ""  # where it says what is deprecated
    return list(yaml.safe_load_all(built.stdout))


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Manifest]]:
    """What is applied: each overlay, and the same with every component."""
    found = {name: kustomize(K8S / "overlays" / name) for name in OVERLAYS}
    copy = shutil.copytree(K8S, tmp_path_factory.mktemp("k8s") / "k8s")
    for name in OVERLAYS:
        folder = copy / "overlays" / f"{name}-all"
        folder.mkdir()
        kustomization = {"resources": [f"../{name}"], "components": [f"../../components/{part}" for part in COMPONENTS]}
        (folder / "kustomization.yaml").write_text(yaml.safe_dump(kustomization))
        found[f"{name}-all"] = kustomize(folder)
    return found


def one(manifests: list[Manifest], kind: str, name: str = "densescan") -> Manifest:
    (found,) = [m for m in manifests if m["kind"] == kind and m["metadata"]["name"] == name]
    return found


def pod(manifests: list[Manifest]) -> dict[str, Any]:
    return one(manifests, "Deployment")["spec"]["template"]["spec"]


def server(manifests: list[Manifest]) -> dict[str, Any]:
    (container,) = pod(manifests)["containers"]
    return container


ALL = (*OVERLAYS, *(f"{name}-all" for name in OVERLAYS))


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("name", ALL)
def test_every_object_follows_the_schema_of_kubernetes(
    built: dict[str, list[Manifest]], name: str, version: str
) -> None:
    for manifest in built[name]:
        kubernetes_validate.validate(manifest, version, strict=True)


def test_the_schemas_would_find_a_mistake(built: dict[str, list[Manifest]]) -> None:
    wrong = one(built["cpu"], "Deployment")
    wrong = {**wrong, "spec": {**wrong["spec"], "minReadySecond": 10}}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(wrong, VERSIONS[-1], strict=True)


@pytest.mark.parametrize("name", ALL)
def test_the_pod_is_what_the_restricted_standard_lets_in(built: dict[str, list[Manifest]], name: str) -> None:
    assert one(built[name], "Namespace")["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    context, container = pod(built[name])["securityContext"], server(built[name])["securityContext"]
    assert context["runAsNonRoot"] is True
    assert context["runAsUser"] == 1000
    assert context["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert pod(built[name])["automountServiceAccountToken"] is False
    assert {next(k for k in volume if k != "name") for volume in pod(built[name])["volumes"]} <= {"emptyDir", "secret"}


@pytest.mark.parametrize("name", ALL)
def test_what_the_server_writes_has_a_place(built: dict[str, list[Manifest]], name: str) -> None:
    mounts = {mount["mountPath"] for mount in server(built[name])["volumeMounts"] if not mount.get("readOnly")}
    assert mounts == {"/tmp", "/dev/shm", *(["/var/cache/densescan/tensorrt"] if name.startswith("gpu") else [])}
    (shared,) = [volume for volume in pod(built[name])["volumes"] if volume["name"] == "shared-memory"]
    assert shared["emptyDir"] == {"medium": "Memory", "sizeLimit": "1Gi"}


@pytest.mark.parametrize("name", ALL)
def test_selectors_find_the_pods_and_ports_exist(built: dict[str, list[Manifest]], name: str) -> None:
    deployment = one(built[name], "Deployment")
    assert deployment["spec"]["selector"]["matchLabels"] == POD_LABELS
    assert deployment["spec"]["template"]["metadata"]["labels"].items() >= POD_LABELS.items()
    assert one(built[name], "PodDisruptionBudget")["spec"]["selector"]["matchLabels"] == POD_LABELS
    assert one(built[name], "NetworkPolicy")["spec"]["podSelector"]["matchLabels"] == POD_LABELS
    ports = {port["name"]: port["containerPort"] for port in server(built[name])["ports"]}
    assert ports == {"health": 8000, "grpc": 8001, "metrics": 8002}
    for service in ("densescan", "densescan-headless"):
        spec = one(built[name], "Service", service)["spec"]
        assert spec["selector"] == POD_LABELS
        assert [port["targetPort"] for port in spec["ports"]] == ["grpc"]
    assert one(built[name], "Service", "densescan-headless")["spec"]["clusterIP"] == "None"


@pytest.mark.parametrize("name", ALL)
def test_probes_ask_what_the_server_answers_without_a_certificate(built: dict[str, list[Manifest]], name: str) -> None:
    container = server(built[name])
    for probe, path in (("startupProbe", "ready"), ("readinessProbe", "ready"), ("livenessProbe", "live")):
        assert container[probe]["httpGet"] == {"path": f"/v2/health/{path}", "port": "health"}
    starting = container["startupProbe"]
    assert starting["periodSeconds"] * starting["failureThreshold"] >= (1200 if name.startswith("gpu") else 300)


def test_the_next_gpu_is_asked_for_when_the_one_before_has_had_time_to_start(built: dict[str, list[Manifest]]) -> None:
    scaling = one(built["gpu"], "HorizontalPodAutoscaler")["spec"]["behavior"]
    assert scaling["scaleUp"]["policies"] == [{"type": "Pods", "value": 1, "periodSeconds": 600}]
    assert scaling["scaleDown"] == one(built["cpu"], "HorizontalPodAutoscaler")["spec"]["behavior"]["scaleDown"]


@pytest.mark.parametrize("name", ALL)
def test_a_pod_has_time_to_finish_what_it_runs(built: dict[str, list[Manifest]], name: str) -> None:
    container = server(built[name])
    leaving = int(container["lifecycle"]["preStop"]["exec"]["command"][1])
    finishing = {entry["name"]: entry.get("value") for entry in container["env"]}["DENSESCAN_EXIT_TIMEOUT_S"]
    assert pod(built[name])["terminationGracePeriodSeconds"] > leaving + int(finishing)


@pytest.mark.parametrize("name", ALL)
def test_an_update_takes_no_pod_down_before_another_is_ready(built: dict[str, list[Manifest]], name: str) -> None:
    spec = one(built[name], "Deployment")["spec"]
    assert spec["strategy"]["rollingUpdate"] == {"maxUnavailable": 0, "maxSurge": 1}
    assert "replicas" not in spec
    scaler = one(built[name], "HorizontalPodAutoscaler")["spec"]
    assert scaler["minReplicas"] >= 2
    assert scaler["scaleTargetRef"] == {"apiVersion": "apps/v1", "kind": "Deployment", "name": "densescan"}


@pytest.mark.parametrize("name", OVERLAYS)
def test_nothing_gets_in_but_callers_and_prometheus_and_nothing_out(
    built: dict[str, list[Manifest]], name: str
) -> None:
    policy = one(built[name], "NetworkPolicy")["spec"]
    assert policy["policyTypes"] == ["Ingress", "Egress"]
    assert policy["egress"] == []
    doors = {rule["ports"][0]["port"]: rule["from"] for rule in policy["ingress"]}
    assert set(doors) == {"grpc", "metrics"}
    (callers,), (scraper,) = doors["grpc"], doors["metrics"]
    assert callers["podSelector"]["matchLabels"] == {"densescan/client": "true"}
    assert scraper["podSelector"]["matchLabels"] == {"app.kubernetes.io/name": "prometheus"}
    assert scraper["namespaceSelector"]["matchLabels"] == {"kubernetes.io/metadata.name": "monitoring"}


@pytest.mark.parametrize("name", ALL)
def test_every_variable_is_one_that_the_server_reads(built: dict[str, list[Manifest]], name: str) -> None:
    program = (ROOT / "docker/serve.py").read_text()
    for entry in server(built[name])["env"]:
        assert re.search(rf"\b{entry['name']}\b", program)
    # No options beside the variables: then those of docker/serve.py, all tested, are all there are.
    assert "args" not in server(built[name])
    assert "command" not in server(built[name])


@pytest.mark.parametrize("name", OVERLAYS)
def test_the_image_is_one_that_is_built(built: dict[str, list[Manifest]], name: str) -> None:
    assert server(built[name])["image"] == f"densescan/server-{name}-baked:0.1.0"


def test_the_gpu_is_asked_for_in_one_overlay_only(built: dict[str, list[Manifest]]) -> None:
    assert server(built["gpu"])["resources"]["limits"]["nvidia.com/gpu"] == "1"
    assert "nvidia.com/gpu" not in server(built["cpu"])["resources"]["limits"]


def test_tls_reads_its_files_where_they_are_mounted(built: dict[str, list[Manifest]]) -> None:
    container = server(built["cpu-all"])
    values = {entry["name"]: entry["value"] for entry in container["env"]}
    (mount,) = [mount for mount in container["volumeMounts"] if mount["name"] == "tls"]
    assert mount == {"name": "tls", "mountPath": "/run/tls", "readOnly": True}
    names = {name: Path(value).name for name, value in values.items() if name.startswith("DENSESCAN_TLS")}
    assert names == {
        "DENSESCAN_TLS_CERT": "server.pem",
        "DENSESCAN_TLS_KEY": "server-key.pem",
        "DENSESCAN_TLS_CLIENT_CA": "ca.pem",
    }
    (volume,) = [volume for volume in pod(built["cpu-all"])["volumes"] if volume["name"] == "tls"]
    assert volume["secret"]["defaultMode"] == 0o440  # for fsGroup, and nobody else


def test_the_autoscaler_reads_a_metric_that_the_adapter_makes_of_tritons(built: dict[str, list[Manifest]]) -> None:
    (metric,) = one(built["cpu"], "HorizontalPodAutoscaler")["spec"]["metrics"]
    (rule,) = yaml.safe_load((K8S / "prometheus-adapter.yaml").read_text())["rules"]["custom"]
    assert metric["pods"]["metric"]["name"] == rule["name"]["as"]
    assert rule["seriesQuery"].split("{")[0] in rule["metricsQuery"]


class TestKServe:
    RUNTIME: Manifest = yaml.safe_load((K8S / "kserve/servingruntime.yaml").read_text())
    SERVICE: Manifest = yaml.safe_load((K8S / "kserve/inferenceservice.yaml").read_text())

    @pytest.mark.parametrize("version", VERSIONS)
    def test_the_runtimes_containers_make_a_pod(self, version: str) -> None:
        spec = {key: self.RUNTIME["spec"][key] for key in ("containers", "volumes")}
        manifest = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x"}, "spec": spec}
        kubernetes_validate.validate(manifest, version, strict=True)

    def test_what_is_applied_brings_its_namespace(self) -> None:
        applied = kustomize(K8S / "kserve")
        (namespace,) = [manifest for manifest in applied if manifest["kind"] == "Namespace"]
        others = [manifest for manifest in applied if manifest is not namespace]
        assert {manifest["metadata"]["namespace"] for manifest in others} == {namespace["metadata"]["name"]}

    def test_the_service_uses_our_runtime_and_a_format_and_protocol_of_it(self) -> None:
        model, runtime = self.SERVICE["spec"]["predictor"]["model"], self.RUNTIME["spec"]
        assert model["runtime"] == self.RUNTIME["metadata"]["name"]
        assert model["modelFormat"] in [
            {k: f[k] for k in ("name", "version")} for f in runtime["supportedModelFormats"]
        ]
        assert model["protocolVersion"] in runtime["protocolVersions"]

    def test_the_container_has_the_name_and_port_that_kserve_looks_for(self) -> None:
        (container,) = self.RUNTIME["spec"]["containers"]
        assert container["name"] == "kserve-container"
        assert container["ports"] == [{"name": "h2c", "containerPort": 8001, "protocol": "TCP"}]

    def test_it_has_as_long_to_start_as_the_deployment(self, built: dict[str, list[Manifest]]) -> None:
        (container,) = self.RUNTIME["spec"]["containers"]
        starting = server(built["cpu"])["startupProbe"]
        assert container["startupProbe"] == {**starting, "httpGet": {**starting["httpGet"], "port": 8000}}

    def test_it_runs_as_closed_as_the_deployment(self) -> None:
        (container,) = self.RUNTIME["spec"]["containers"]
        context = container["securityContext"]
        assert context["runAsNonRoot"] is context["readOnlyRootFilesystem"] is True
        assert context["capabilities"] == {"drop": ["ALL"]}
        assert container["image"] == "densescan/server-cpu:0.1.0"
