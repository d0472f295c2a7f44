from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import types
from collections.abc import Callable
from pathlib import Path

import pytest

from loadtest.server_side import family
from server.signing import sign
from tests.server import tiny
from tests.server.conftest import eventually
from tests.server.released import new_key, release

from . import certificates
from .conftest import Container
from .images import ROOT

SETTINGS = {
    "plain": {},
    "gpu": {"DENSESCAN_PROFILE": "gpu"},
    "tls": {"DENSESCAN_TLS_CERT": "server.pem", "DENSESCAN_TLS_KEY": "server-key.pem"},
    "mutual": {
        "DENSESCAN_TLS_CERT": "server.pem",
        "DENSESCAN_TLS_KEY": "server-key.pem",
        "DENSESCAN_TLS_CLIENT_CA": "ca.pem",
    },
    "traced": {"DENSESCAN_OTLP_URL": "http://collector:4318/v1/traces"},
}


WITH_ENGINES_IN = (
    *(sys.executable, "-B", "-c"),
    "import sys, pathlib; sys.path.insert(0, 'docker'); import serve;"
    "serve.ENGINES = pathlib.Path(sys.argv.pop()); serve.main()",
)
"""The images' start program; the folder of TensorRT's engines comes behind."""


@pytest.fixture(scope="module")
def pem(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return certificates.make(tmp_path_factory.mktemp("pem"))


@pytest.fixture
def settings(request: pytest.FixtureRequest, pem: Path) -> dict[str, str]:
    return {name: str(pem / value) if "TLS" in name else value for name, value in request.param.items()}


def names(options: list[str]) -> list[str]:
    return [option.split("=", 1)[0] for option in options]


@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS, indirect=True)
def test_every_option_is_one_of_tritonservers_own(
    serve: types.ModuleType, known_flags: frozenset[str], settings: dict[str, str]
) -> None:
    assert set(names(serve.options(settings))) <= known_flags


@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS, indirect=True)
def test_models_cannot_be_loaded_from_outside_whatever_is_set(
    serve: types.ModuleType, settings: dict[str, str]
) -> None:
    options = serve.options(settings)
    assert "--model-control-mode=none" in options
    assert names(options).count("--grpc-restricted-protocol") == names(options).count("--http-restricted-api") == 1


def test_the_cpu_profile_is_chosen_by_name_and_the_gpu_profile_is_the_default_config(serve: types.ModuleType) -> None:
    assert "--model-config-name=cpu" in serve.options({})
    assert "--model-config-name" not in names(serve.options({"DENSESCAN_PROFILE": "gpu"}))


def test_keys_are_new_at_every_start_and_long(serve: types.ModuleType) -> None:
    keys = {o.rsplit("=", 1)[1] for _ in range(2) for o in serve.options({}) if "restricted" in o}
    assert len(keys) == 4
    assert all(len(key) == 64 for key in keys)


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"DENSESCAN_PROFILE": "tpu"}, "DENSESCAN_PROFILE"),
        ({"DENSESCAN_TLS_CERT": __file__}, "name both files"),
        ({"DENSESCAN_TLS_CLIENT_CA": __file__}, "name both files"),
        ({"DENSESCAN_TLS_CERT": __file__, "DENSESCAN_TLS_KEY": "/nowhere"}, "/nowhere cannot be read"),
    ],
)
def test_a_wrong_setting_is_refused_and_named(serve: types.ModuleType, settings: dict[str, str], told: str) -> None:
    with pytest.raises((serve.SettingError, serve.TlsError), match=told):
        serve.options(settings)


@pytest.mark.parametrize("key", ["short", "x" * 31, "with,comma" + "x" * 32])
def test_a_weak_admin_key_is_refused(serve: types.ModuleType, tmp_path: Path, key: str) -> None:
    (tmp_path / "key").write_text(key)
    with pytest.raises(serve.SettingError, match="32 or more"):
        serve.options({"DENSESCAN_ADMIN_KEY_FILE": str(tmp_path / "key")})


def run_serve(repository: Path, program: str, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "DENSESCAN_MODELS": str(repository), "DENSESCAN_TRITONSERVER": program, **variables}
    environment["PYTHONPATH"] = str(ROOT)
    command = [sys.executable, str(ROOT / "docker/serve.py")]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)


def test_changed_weights_are_not_served(tmp_path: Path, tiny_repository: Path) -> None:
    repository = shutil.copytree(tiny_repository, tmp_path / "models")
    release(repository / "tiny/1")
    assert run_serve(repository, shutil.which("true") or "").returncode == 0
    with (repository / "tiny/1/model.bin").open("ab") as file:
        file.write(b"\0")
    refused = run_serve(repository, shutil.which("true") or "")
    assert refused.returncode == 1
    assert "tiny/1/model.bin: has been changed" in refused.stderr


def test_only_a_repository_signed_with_the_release_key_is_served(tmp_path: Path, tiny_repository: Path) -> None:
    repository = shutil.copytree(tiny_repository, tmp_path / "models")
    key, public = new_key(tmp_path / "ours")
    does_nothing = shutil.which("true") or ""
    unsigned = run_serve(repository, does_nothing, DENSESCAN_RELEASE_KEY=str(public))
    assert unsigned.returncode == 1
    assert "is not signed" in unsigned.stderr
    sign(repository, key)
    assert run_serve(repository, does_nothing, DENSESCAN_RELEASE_KEY=str(public)).returncode == 0
    with (repository / "tiny/config.pbtxt").open("a") as config:
        config.write("# changed")
    changed = run_serve(repository, does_nothing, DENSESCAN_RELEASE_KEY=str(public))
    assert changed.returncode == 1
    assert "tiny/config.pbtxt: has been changed" in changed.stderr


def test_a_repository_that_is_not_mounted_is_named(tmp_path: Path) -> None:
    refused = run_serve(tmp_path / "nowhere", shutil.which("true") or "")
    assert refused.returncode == 1
    assert "mount it there" in refused.stderr


def test_an_engine_stays_for_the_networks_it_was_built_from_alone(
    serve: types.ModuleType, tmp_path: Path, tiny_repository: Path
) -> None:
    """ONNX Runtime names engines without regard to weights: an old one would be served as the new version."""
    repository = shutil.copytree(tiny_repository, tmp_path / "models")
    weights, engines = repository / "tiny/1/model.onnx", tmp_path / "engines"
    assert serve.drop_other_engines(repository, engines) == 0  # a folder that is not there
    engines.mkdir()

    def start_with_engines() -> set[str]:
        for name in ("tiny_1.engine", "tiny_1.profile", "card.timing", "a file of somebody's"):
            (engines / name).touch()
        serve.drop_other_engines(repository, engines)
        return {path.name for path in engines.iterdir()}

    none = {"built_from", "a file of somebody's"}
    assert start_with_engines() == none  # built from nobody knows what
    assert start_with_engines() == none | {"tiny_1.engine", "tiny_1.profile", "card.timing"}
    released = weights.read_bytes()
    weights.write_bytes(released + b"\0")
    assert start_with_engines() == none
    weights.write_bytes(released)
    assert start_with_engines() == none
    weights.parent.rename(weights.parent.with_name("2"))
    assert start_with_engines() == none


@pytest.mark.parametrize(("profile", "kept"), [("gpu", False), ("cpu", True)])
def test_old_engines_are_gone_before_the_gpu_profile_is_served(
    tmp_path: Path, tiny_repository: Path, profile: str, kept: bool
) -> None:
    (tmp_path / "old.engine").touch()
    variables = {"DENSESCAN_MODELS": str(tiny_repository), "DENSESCAN_PROFILE": profile}
    environment = {**os.environ, **variables, "DENSESCAN_TRITONSERVER": shutil.which("true") or ""}
    command = [*WITH_ENGINES_IN, str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "old.engine").exists() is kept
    assert ("new ones are built" in done.stderr) is not kept


@pytest.mark.parametrize(("program", "kept"), [("false", False), ("true", True)])
def test_after_a_start_that_failed_the_next_builds_all_engines(
    tmp_path: Path, tiny_repository: Path, program: str, kept: bool
) -> None:
    """One that a full disk left in part would fail at every start."""
    variables = {"DENSESCAN_MODELS": str(tiny_repository), "DENSESCAN_PROFILE": "gpu"}
    environment = {**os.environ, **variables, "DENSESCAN_TRITONSERVER": shutil.which(program) or ""}
    command = [*WITH_ENGINES_IN, str(tmp_path)]
    subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60)
    assert (tmp_path / "built_from").exists() is kept


def test_a_server_that_did_not_end_in_time_is_no_start_that_failed(tmp_path: Path, tiny_repository: Path) -> None:
    """Tritonserver's exit code is 1 in both cases; engines take minutes to build."""
    program = tmp_path / "tritonserver"
    program.write_text("#!/bin/bash\ntrap 'exit 1' TERM\ntouch $0.runs\nwhile :; do sleep 0.1; done\n")
    program.chmod(0o755)
    variables = {"DENSESCAN_MODELS": str(tiny_repository), "DENSESCAN_PROFILE": "gpu"}
    environment = {**os.environ, **variables, "DENSESCAN_TRITONSERVER": str(program)}
    process = subprocess.Popen([*WITH_ENGINES_IN, str(tmp_path)], cwd=ROOT, env=environment)
    try:
        assert eventually((tmp_path / "tritonserver.runs").exists, 60)
        process.terminate()
        assert process.wait(60) == 128 + signal.SIGTERM
    finally:
        process.kill()
    assert (tmp_path / "built_from").exists()


def test_told_to_stop_while_it_checks_it_ends(tmp_path: Path, tiny_repository: Path) -> None:
    """As the first process of a container it is not ended by a signal that it does not take."""
    os.mkfifo(tmp_path / "key")
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "DENSESCAN_MODELS": str(tiny_repository)}
    environment["DENSESCAN_ADMIN_KEY_FILE"] = str(tmp_path / "key")
    process = subprocess.Popen([sys.executable, str(ROOT / "docker/serve.py")], env=environment)
    try:
        writer = os.open(tmp_path / "key", os.O_WRONLY)  # as soon as it reads, which it does for ever
        process.terminate()
        assert process.wait(30) == 128 + signal.SIGTERM
        os.close(writer)
    finally:
        process.kill()


@pytest.mark.triton
def test_the_images_own_files_serve_right_answers_and_stop_when_told(start_container: Callable[..., Container]) -> None:
    from tritonclient.grpc import InferenceServerClient, InferInput

    container = start_container()
    pictures = tiny.pictures(3)
    with InferenceServerClient(f"127.0.0.1:{container.grpc}") as client:
        image = InferInput("image", list(pictures.shape), "UINT8")
        image.set_data_from_numpy(pictures)
        answer = client.infer("tiny", [image]).as_numpy("probabilities")
    assert answer == pytest.approx(tiny.expected_probabilities(pictures), abs=1e-5)
    assert container.stop() == 0
    assert not container.healthy()


@pytest.mark.triton
def test_when_a_models_process_dies_the_container_ends_so_that_it_is_started_again(
    start_container: Callable[..., Container],
) -> None:
    container = start_container()
    (server,) = children(container.process.pid)
    stubs = children(server)
    assert len(stubs) == 2
    os.kill(stubs[0], signal.SIGKILL)
    assert container.process.wait(30) == 1
    assert "the process of a model has died" in container.log.read_text()
    assert not Path(f"/proc/{server}").exists()


def children(pid: int) -> list[int]:
    found = subprocess.run(["pgrep", "-P", str(pid)], capture_output=True, text=True, timeout=10)
    return [int(line) for line in found.stdout.split()]


@pytest.mark.triton
def test_what_a_killed_container_leaves_in_shared_memory_the_next_start_deletes(
    start_container: Callable[..., Container],
) -> None:
    """In Kubernetes that memory outlives the container, and some such ends would leave no room to start."""

    def regions() -> set[str]:
        return {path.name for path in Path("/dev/shm").glob("densescan_*")}

    before = regions()
    container = start_container()
    left = regions() - before
    assert len(left) > 1
    for pid in family(container.process.pid):  # all at once, as a container that needs too much memory
        os.kill(pid, signal.SIGKILL)
    container.process.wait(10)
    assert left <= regions()
    again = start_container()
    assert not left & regions()
    again.stop()
    assert regions() <= before
