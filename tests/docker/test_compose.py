from __future__ import annotations

import re
import subprocess
import sys
import types
from pathlib import Path
from typing import Any

import pytest
import yaml

from .images import ROOT

COMPOSE = ROOT / "docker/compose.yaml"
TLS = ROOT / "docker/compose.tls.yaml"
FILE: dict[str, Any] = yaml.safe_load(COMPOSE.read_text())
SERVICES: dict[str, Any] = FILE["services"]
SERVERS = ("cpu", "gpu")


@pytest.mark.parametrize("path", [COMPOSE, TLS], ids=lambda path: path.name)
def test_the_file_follows_the_compose_specification(path: Path) -> None:
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", str(path)]
    checked = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_the_schema_check_would_find_a_mistake(tmp_path: Path) -> None:
    wrong = tmp_path / "compose.yaml"
    wrong.write_text(COMPOSE.read_text().replace("pids_limit", "pid_limits"))
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", str(wrong)]
    assert subprocess.run(command, capture_output=True, timeout=60).returncode != 0


def test_there_are_the_four_profiles_and_nothing_starts_without_one() -> None:
    profiles = [tuple(service["profiles"]) for service in SERVICES.values()]
    assert set(profiles) == {("cpu",), ("gpu",), ("monitoring",), ("loadtest",)}


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_can_write_nothing_and_gain_nothing(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert "no-new-privileges:true" in service["security_opt"]
    assert not service.get("privileged")
    # The image of the load test is ours, and has the user inside.
    assert name == "loadtest" or int(service["user"].split(":")[0]) > 0


@pytest.mark.parametrize("name", SERVICES)
def test_ports_are_open_to_this_machine_only(name: str) -> None:
    for port in SERVICES[name].get("ports", []):
        assert re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", port).startswith("127.0.0.1:")


@pytest.mark.parametrize("name", SERVERS)
def test_a_server_publishes_grpc_and_neither_http_nor_metrics(name: str) -> None:
    assert [port.rsplit(":", 1)[1] for port in SERVICES[name]["ports"]] == ["8001"]


@pytest.mark.parametrize("name", SERVERS)
def test_the_repository_is_mounted_where_the_server_reads_it_and_read_only(name: str) -> None:
    (mount,) = [volume for volume in SERVICES[name]["volumes"] if volume["target"] == "/models"]
    assert mount["read_only"] is True
    assert (COMPOSE.parent / mount["source"]).resolve() == ROOT / "model_repository"


def test_the_engine_cache_is_where_the_configs_write_it(model_repository: Path, serve: types.ModuleType) -> None:
    (mount,) = [volume for volume in SERVICES["gpu"]["volumes"] if volume["type"] == "volume"]
    texts = "".join(path.read_text() for path in model_repository.glob("*/config.pbtxt"))
    paths = set(re.findall(r'trt_\w+_cache_path" value: "([^"]+)"', texts))
    assert paths == {mount["target"]} == {str(serve.ENGINES)}


@pytest.mark.parametrize("name", SERVERS)
def test_a_server_has_time_to_finish_and_memory_to_pass_tensors(name: str) -> None:
    service = SERVICES[name]
    assert int(service["stop_grace_period"].rstrip("s")) > int(service["environment"]["DENSESCAN_EXIT_TIMEOUT_S"])
    assert service["shm_size"] == "1gb"
    assert service["healthcheck"]["test"][-1] == "/opt/densescan/healthcheck.py"


def test_only_one_network_reaches_the_metrics_and_it_leads_nowhere() -> None:
    assert FILE["networks"]["metrics"]["internal"] is True
    assert {name for name, service in SERVICES.items() if "metrics" in service["networks"]} == {*SERVERS, "prometheus"}


@pytest.mark.parametrize("path", [COMPOSE, TLS], ids=lambda path: path.name)
def test_every_variable_is_one_that_the_server_reads(path: Path) -> None:
    program = (ROOT / "docker/serve.py").read_text()
    for name in SERVERS:
        for variable in yaml.safe_load(path.read_text())["services"][name]["environment"]:
            assert re.search(rf"\b{variable}\b", program)


def test_what_is_mounted_from_the_repository_is_there() -> None:
    sources = [v["source"] for s in SERVICES.values() for v in s.get("volumes", []) if v["type"] == "bind"]
    assert [source for source in sources if not (COMPOSE.parent / source).exists()] == []


def test_tls_secrets_are_the_files_that_the_script_makes() -> None:
    tls = yaml.safe_load(TLS.read_text())
    assert {entry["file"] for entry in tls["secrets"].values()} == {
        "tls/server.pem",
        "tls/server-key.pem",
        "tls/ca.pem",
    }
    for name in SERVERS:
        used = {value for key, value in tls["services"][name]["environment"].items() if key.startswith("DENSESCAN_TLS")}
        assert used == {f"/run/secrets/{secret}" for secret in tls["secrets"]}
