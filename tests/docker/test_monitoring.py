"""What Prometheus and Grafana are told, against what the server exports and a real Prometheus answers."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
import threading
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from tritonclient.grpc import InferenceServerClient, InferInput
from tritonclient.utils import InferenceServerException

from server.drift import from_metrics
from server.environment import free_ports
from tests.server import tiny
from tests.server.conftest import eventually

from .conftest import Container
from .images import ROOT

MONITORING = ROOT / "docker/monitoring"
DASHBOARD: dict[str, Any] = json.loads((MONITORING / "grafana/dashboards/densescan.json").read_text())
GROUPS: list[dict[str, Any]] = yaml.safe_load((MONITORING / "alerts.yml").read_text())["groups"]
RULES: list[dict[str, Any]] = [rule for group in GROUPS for rule in group["rules"]]
TESTS = ("alerts.test.yml", "drift.test.yml")
ALERTS = [rule for rule in RULES if "alert" in rule]
RECORDED = {rule["record"]: rule["expr"] for rule in RULES if "record" in rule}
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
EXPRESSIONS = {
    **{f"panel {panel['title']} {t['refId']}": t["expr"] for panel in PANELS for t in panel["targets"]},
    **{f"alert {rule['alert']}": rule["expr"] for rule in ALERTS},
    **{f"rule {name}": expression for name, expression in RECORDED.items()},
    "autoscaler": yaml.safe_load((ROOT / "docker/k8s/prometheus-adapter.yaml").read_text())["rules"]["custom"][0][
        "metricsQuery"
    ],
}
GPU_ONLY = {"nv_gpu_utilization", "nv_gpu_memory_used_bytes", "nv_gpu_memory_total_bytes"}
"""Exported where there is a GPU, by Triton's documentation; the embedded server has none."""
REASONS = {"REJECTED", "CANCELED", "BACKEND", "OTHER"}


def promtool(*arguments: str) -> None:
    if not shutil.which("promtool"):
        pytest.skip("promtool is missing: apt-get install prometheus")
    done = subprocess.run(["promtool", *arguments], cwd=MONITORING, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr


def exported(container: Container) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{container.metrics}/metrics", timeout=10) as answer:
        return answer.read().decode()


def infer(client: InferenceServerClient, count: int = 2) -> None:
    pictures = tiny.pictures(count)
    image = InferInput("image", list(pictures.shape), "UINT8")
    image.set_data_from_numpy(pictures)
    client.infer("tiny", [image], client_timeout=60)


@pytest.fixture(scope="module")
def container(start_container: Callable[..., Container]) -> Container:
    started = start_container()
    with InferenceServerClient(f"127.0.0.1:{started.grpc}") as client:
        for _ in range(5):
            infer(client)
    return started


def test_alerts_fire_when_they_must_and_only_then() -> None:
    promtool("check", "rules", "alerts.yml")
    for tests in TESTS:
        promtool("test", "rules", tests)


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        (EXPRESSIONS["autoscaler"], 20),  # ms: 10 in the decoder's queue, 30 in the network's
        (EXPRESSIONS["panel Where a request's time goes (mean) A"], 20_000),
        (EXPRESSIONS["panel Where a request's time goes (mean) C"], 4000),
        (EXPRESSIONS["panel Images/s A"], 10),
        (EXPRESSIONS["panel Images a batch A"], 4),
    ],
    ids=["autoscaler", "queue", "inference", "images", "batch"],
)
def test_an_ensembles_own_counts_do_not_thin_out_what_its_models_took(
    tmp_path: Path, expression: str, value: float
) -> None:
    """Triton counts a request to an ensemble three times: in its two models and in the ensemble, which has no queue."""
    queue, compute, executions = "queue_duration_us", "compute_infer_duration_us", "exec_count"
    a_second = {
        "xray_classifier": {"request_success": 10, "count": 10, queue: 0, compute: 80_000, executions: 10},
        "xray_decoder": {"request_success": 10, "count": 10, queue: 100_000, compute: 20_000, executions: 2.5},
        "xray_densenet121": {"request_success": 10, "count": 10, queue: 300_000, compute: 60_000, executions: 2.5},
    }
    series = [
        {"series": f'nv_inference_{name}{{job="densescan",instance="a",model="{model}"}}', "values": f"0+{15 * rate}x9"}
        for model, rates in a_second.items()
        for name, rate in rates.items()
    ]
    labels = '{instance="a"}' if "<<.GroupBy>>" in expression else "{}"
    for name, filled in {
        **{"$__rate_interval": "1m", "$instance": ".*", "$model": ".*"},
        **{"<<.GroupBy>>": "instance", "<<.LabelMatchers>>": 'job="densescan"'},
    }.items():
        expression = expression.replace(name, filled)
    asked = {"expr": expression, "eval_time": "2m", "exp_samples": [{"labels": labels, "value": value}]}
    test = {"interval": "15s", "input_series": series, "promql_expr_test": [asked]}
    (tmp_path / "test.yml").write_text(yaml.safe_dump({"tests": [test]}))
    promtool("test", "rules", str(tmp_path / "test.yml"))


def test_in_a_cluster_the_page_gives_pods_the_job_that_is_asked_for() -> None:
    (block,) = re.findall(r"^```yaml\n(.*?)^```", (ROOT / "docs/OPERATIONS.md").read_text(), re.MULTILINE | re.DOTALL)
    rules = yaml.safe_load(block)
    assert {rule["target_label"] for rule in rules} == {"job", "namespace", "pod"}
    (job,) = [rule for rule in rules if rule["target_label"] == "job"]
    deployment = yaml.safe_load((ROOT / "docker/k8s/base/deployment.yaml").read_text())
    pod = deployment["spec"]["template"]["metadata"]["labels"]
    assert job["source_labels"] == ["__meta_kubernetes_pod_label_app_kubernetes_io_name"]
    assert job["regex"] == pod["app.kubernetes.io/name"]
    asked = set(re.findall(r'job="(\w+)"', "".join(EXPRESSIONS.values())))
    assert asked == {job["replacement"]}


def test_every_alert_is_tested_both_ways_and_says_what_to_do() -> None:
    tests = [test for name in TESTS for test in yaml.safe_load((MONITORING / name).read_text())["tests"]]
    cases = [(case["alertname"], bool(case["exp_alerts"])) for test in tests for case in test["alert_rule_test"]]
    for rule in ALERTS:
        assert {(rule["alert"], True), (rule["alert"], False)} <= set(cases)
        assert rule["annotations"]["action"]
        assert rule["labels"]["severity"] in ("critical", "warning")


def test_prometheus_reads_its_config() -> None:
    promtool("check", "config", "--syntax-only", "prometheus.yml")


@pytest.mark.triton
@pytest.mark.parametrize("where", EXPRESSIONS)
def test_every_metric_that_is_asked_for_is_exported(container: Container, where: str) -> None:
    known = set(re.findall(r"^(\w+)\{?", exported(container), re.MULTILINE)) | GPU_ONLY | {"up"} | RECORDED.keys()
    asked = set(re.findall(r"\b(?:nv_\w+|up)\b(?=[{\[])|\bdensescan[_:][\w:]+", EXPRESSIONS[where]))
    assert asked, "no metric was found in the expression"
    assert asked <= known


@pytest.mark.triton
def test_every_label_that_is_asked_for_is_exported(container: Container) -> None:
    text = exported(container)
    assert set(re.findall(r'reason="(\w+)"', text)) == REASONS
    assert set(re.findall(r'quantile="([\d.]+)"', text)) == {"0.5", "0.9", "0.99"}
    for expression in EXPRESSIONS.values():
        for reasons in re.findall(r'reason=~?"([^"]+)"', expression):
            assert set(reasons.split("|")) <= REASONS


def test_no_two_panels_have_one_title() -> None:
    """The tests here know them by it, and so do people who speak of one."""
    titles = [panel["title"] for panel in PANELS]
    assert sorted(set(titles)) == sorted(titles)


def test_the_dashboard_shows_what_an_operator_looks_for() -> None:
    titles = " ".join(panel["title"] for panel in PANELS)
    for wanted in ("Requests by outcome", "Where a request's time goes", "Images a batch", "Queue depth", "Refusals"):
        assert wanted in titles
    assert {"CPU", "GPU", "Drift of the answers"} <= {panel["title"] for panel in PANELS}
    assert all(panel["description"] for panel in PANELS)


def test_panels_do_not_cover_one_another() -> None:
    cells: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        at = panel["gridPos"]
        area = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not area & cells, panel["title"]
        assert max(x for x, _ in area) < 24
        cells |= area
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])


def test_the_dashboard_uses_the_provisioned_source_and_lies_where_grafana_looks() -> None:
    provisioning = MONITORING / "grafana/provisioning"
    (source,) = yaml.safe_load((provisioning / "datasources/prometheus.yaml").read_text())["datasources"]
    used = {panel["datasource"]["uid"] for panel in DASHBOARD["panels"] if "datasource" in panel}
    assert used == {source["uid"]}
    (provider,) = yaml.safe_load((provisioning / "dashboards/densescan.yaml").read_text())["providers"]
    grafana = yaml.safe_load((ROOT / "docker/compose.yaml").read_text())["services"]["grafana"]
    mounts = {mount["source"]: mount["target"] for mount in grafana["volumes"]}
    assert mounts["monitoring/grafana/dashboards"] == provider["options"]["path"]


def test_the_alert_of_a_full_queue_comes_before_the_queue_is_full(model_repository: Path) -> None:
    (rule,) = [rule for rule in ALERTS if rule["alert"] == "DensescanQueueNearlyFull"]
    thresholds = [float(number) for number in re.findall(r"> (\d+)", rule["expr"])]
    for threshold, pattern in zip(thresholds, ("*/c*/cpu.pbtxt", "*/config.pbtxt"), strict=True):
        texts = [path.read_text() for path in model_repository.glob(pattern)]
        sizes = {int(size) for text in texts for size in re.findall(r"max_queue_size: (\d+)", text)}
        assert sizes
        assert 0.5 * min(sizes) < threshold < min(sizes)


@pytest.mark.triton
def test_a_full_queue_refuses_without_being_counted(
    start_container: Callable[..., Container], tiny_repository: Path, tmp_path: Path
) -> None:
    """The reason for the alert above: should Triton begin to count them, this fails, and a better alert is possible."""
    repository = shutil.copytree(tiny_repository, tmp_path / "models")
    config = repository / "tiny/configs/cpu.pbtxt"
    queue = "preferred_batch_size: [4] default_queue_policy { max_queue_size: 2 }"
    policy = f"max_queue_delay_microseconds: 2000000 {queue}"
    config.write_text(config.read_text().replace("max_queue_delay_microseconds: 0", policy))
    container = start_container({}, repository)
    answered: list[int] = []
    refused: list[str] = []

    def counted(outcome: str) -> set[str]:
        lines = rf'^nv_inference_request_{outcome}\{{.*model="tiny".*\}} (\d+)$'
        return set(re.findall(lines, exported(container), re.MULTILINE))

    with InferenceServerClient(f"127.0.0.1:{container.grpc}") as client:

        def one(number: int) -> None:
            try:
                infer(client, 1)
                answered.append(number)
            except InferenceServerException as error:
                refused.append(str(error))

        with ThreadPoolExecutor(16) as threads:
            list(threads.map(one, range(16)))
    # On a slow machine some of them come when those before have been answered.
    assert len(answered) + len(refused) == 16
    assert refused
    assert all("Exceeds maximum queue size" in message for message in refused)
    assert eventually(lambda: counted("success") == {str(len(answered))})
    assert counted("failure") == {"0"}


@pytest.fixture(scope="module")
def prometheus(container: Container, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A real Prometheus with the project's rules, scraping the server; its address."""
    if not shutil.which("prometheus"):
        pytest.skip("prometheus is missing: apt-get install prometheus")
    folder = tmp_path_factory.mktemp("prometheus")
    config = yaml.safe_load((MONITORING / "prometheus.yml").read_text())
    config["global"]["scrape_interval"] = "1s"
    config["global"]["evaluation_interval"] = "1s"
    rules = {"groups": [{key: group[key] for key in ("name", "rules")} for group in GROUPS]}  # none waits minutes
    (folder / "alerts.yml").write_text(yaml.safe_dump(rules))
    config["rule_files"] = [str(folder / "alerts.yml")]
    (job,) = config["scrape_configs"]
    del job["dns_sd_configs"]
    job["static_configs"] = [{"targets": [f"127.0.0.1:{container.metrics}"]}]
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
    (port,) = free_ports("127.0.0.1", 1)
    guard = [sys.executable, "-I", str(ROOT / "server/_exec_with_parent.py"), str(os.getpid())]
    process = subprocess.Popen(
        [
            *(*guard, str(shutil.which("prometheus"))),
            *(f"--config.file={folder / 'prometheus.yml'}", f"--storage.tsdb.path={folder / 'data'}"),
            f"--web.listen-address=127.0.0.1:{port}",
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    yield f"http://127.0.0.1:{port}"
    process.terminate()
    process.wait(20)


def query(prometheus: str, expression: str, moment: float | None = None) -> list[dict[str, Any]]:
    asked = {"query": expression} | ({} if moment is None else {"time": moment})
    url = f"{prometheus}/api/v1/query?{urllib.parse.urlencode(asked)}"
    with urllib.request.urlopen(url, timeout=10) as answer:
        return json.load(answer)["data"]["result"]


@pytest.fixture(scope="module")
def ask(prometheus: str, container: Container) -> Callable[[str], list[dict[str, Any]]]:
    """Asks Prometheus as the dashboard does, once it has seen the rates of a minute's worth of requests."""

    def answer(expression: str, model: str = ".*") -> list[dict[str, Any]]:
        for name, value in {"__rate_interval": "10s", "instance": ".*", "model": model}.items():
            expression = expression.replace(f"${name}", value)
        return query(prometheus, expression)

    deadline = time.monotonic() + 120
    with InferenceServerClient(f"127.0.0.1:{container.grpc}") as client:
        while time.monotonic() < deadline:
            infer(client)
            with contextlib.suppress(OSError):
                if answer('rate(nv_inference_exec_count{model="tiny"}[10s]) > 0') and answer("densescan:drift:index"):
                    return answer
            time.sleep(0.2)
    pytest.fail("Prometheus has no rate of executions after 120 s")


@pytest.fixture
def busy(container: Container) -> Iterator[None]:
    """Somebody asks the server all the time: without requests there are no rates."""
    ended = threading.Event()

    def requests() -> None:
        with InferenceServerClient(f"127.0.0.1:{container.grpc}") as client:
            while not ended.wait(0.2):
                infer(client)

    thread = threading.Thread(target=requests)
    thread.start()
    yield
    ended.set()
    thread.join()


def values(series: list[dict[str, Any]]) -> list[float]:
    return [float(one["value"][1]) for one in series]


@pytest.mark.triton
@pytest.mark.slow
@pytest.mark.usefixtures("busy")
def test_a_real_prometheus_answers_what_the_dashboard_asks(ask: Callable[..., list[dict[str, Any]]]) -> None:
    for where, expression in EXPRESSIONS.items():
        on_this_machine = not GPU_ONLY & set(re.findall(r"\w+", expression)) and not expression.endswith("> 0")
        if where.startswith("panel") and on_this_machine:
            assert eventually(lambda asked=expression: bool(ask(asked))), where
    batch = EXPRESSIONS["panel Images a batch, by model A"]
    assert eventually(lambda: values(ask(batch, model="tiny")) == [pytest.approx(2)])


@pytest.mark.triton
@pytest.mark.slow
@pytest.mark.usefixtures("busy")
def test_the_autoscalers_metric_is_the_mean_time_in_the_queue(ask: Callable[..., list[dict[str, Any]]]) -> None:
    expression = EXPRESSIONS["autoscaler"].replace("<<.GroupBy>>", "instance")
    expression = expression.replace("<<.LabelMatchers>>", 'job="densescan"')
    assert eventually(lambda: [0 < value < 1000 for value in values(ask(expression))] == [True])


@pytest.mark.triton
@pytest.mark.slow
@pytest.mark.usefixtures("ask")
def test_prometheus_and_the_command_have_one_index(prometheus: str, container: Container) -> None:
    """The rules do with what Prometheus recorded what `python -m server.drift` does with the metrics."""
    from densescan.drift import stability_index

    (compared,) = from_metrics(exported(container))
    seen, moment = np.zeros_like(compared.seen), time.time()
    # The last rule of a later round is written: nothing is added to that moment any more.
    assert eventually(lambda: all(at > moment for at in values(query(prometheus, "timestamp(densescan:drift:index)"))))
    for series in query(prometheus, "densescan:answers:day", moment):
        labels = series["metric"]
        cell = compared.labels.index(labels["label"]), compared.edges.index(float(labels["confidence"]))
        seen[cell] = float(series["value"][1])
    assert seen.sum() > 1
    (index,) = query(prometheus, "densescan:drift:index", moment)
    assert float(index["value"][1]) == pytest.approx(stability_index(seen, compared.released))
