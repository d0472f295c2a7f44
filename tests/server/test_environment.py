from __future__ import annotations

import os
import socket
import sys
from pathlib import Path
from typing import Any

import pytest

from densescan._options import OPTIONS
from server import environment
from server.errors import ServerStartError


def test_everything_that_triton_needs_is_found() -> None:
    found = environment.find_installation()
    assert found.tritonserver.is_file()
    assert found.stub.is_file()
    assert f"{sys.version_info.major}.{sys.version_info.minor}" in str(found.stub)
    assert all(folder.is_dir() for folder in (found.python_backend, *found.libraries, *found.python_path))


def test_the_models_python_is_this_one() -> None:
    variables = environment.find_installation().environment({"PATH": "somewhere", "HOME": "kept"})
    assert variables["PATH"].split(":")[0] == str(Path(sys.executable).parent)
    assert variables["PATH"].endswith(":somewhere")
    assert variables["HOME"] == "kept"


def test_a_variable_that_nobody_has_set_gets_no_empty_entry() -> None:
    """To the loader, and to Python, that is the folder that one happens to stand in."""
    variables = environment.find_installation().environment({})
    for name in ("LD_LIBRARY_PATH", "PATH", "PYTHONPATH"):
        assert all(variables[name].split(os.pathsep)), name


def test_this_pythons_own_library_comes_before_the_systems(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another build of the same version may lie there."""
    monkeypatch.setattr("sysconfig.get_config_var", lambda name: str(tmp_path) if name == "LIBDIR" else None)
    assert environment._library_folders()[0] == tmp_path
    library = tmp_path / f"libpython{sys.version_info.major}.{sys.version_info.minor}.so.1.0"
    library.touch()
    assert environment.find_libpython() == library


def test_connections_of_a_server_just_stopped_do_not_keep_its_port() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)) as caller:
            connection, _ = listener.accept()
            connection.close()  # first, so that its end is the one that waits
            assert caller.recv(1) == b""
    environment.check_port_is_free("127.0.0.1", port, "--grpc-port")


def test_a_missing_libpython_says_which_package_brings_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment, "_library_folders", list)
    with pytest.raises(ServerStartError, match="is missing") as caught:
        environment.find_libpython()
    assert f"libpython{sys.version_info.major}.{sys.version_info.minor}" in caught.value.hint


def test_a_python_without_a_stub_names_those_that_have_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment, "_version", lambda: "3.99")
    with pytest.raises(ServerStartError, match=r"no stub for Python 3\.99, only for 3\.8, .*3\.13"):
        environment.find_installation()


def test_a_missing_wheel_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ServerStartError, match="nvidia-pytriton") as caught:
        environment.find_installation()
    assert "pip install" in caught.value.hint


def test_another_system_is_pointed_to_the_container(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    with pytest.raises(ServerStartError, match="not on darwin") as caught:
        environment.find_installation()
    assert "container" in caught.value.hint


def test_another_processor_is_pointed_to_the_container(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.machine", lambda: "riscv64")
    with pytest.raises(ServerStartError, match="riscv64") as caught:
        environment.find_installation()
    assert "container" in caught.value.hint


class Driver:
    """A CUDA driver with three devices that can be initialised, or not."""

    def __init__(self, status: int) -> None:
        self.status = status

    def cuInit(self, flags: int) -> int:
        return self.status

    def cuDeviceGetCount(self, count: Any) -> int:
        count._obj.value = 3
        return 0


@pytest.mark.parametrize(("driver", "gpus"), [(Driver(0), 3), (Driver(100), 0), (None, 0)])
def test_gpus_are_those_of_a_driver_that_works(
    driver: Driver | None, gpus: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def load(name: str) -> Driver:
        if driver is None:
            raise OSError(f"{name}: cannot open shared object file")
        return driver

    monkeypatch.setattr("ctypes.CDLL", load)
    assert environment.visible_gpus() == gpus


def test_a_port_that_is_taken_names_the_option_that_changes_it() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ServerStartError, match=f"port {port} on") as caught:
            environment.check_port_is_free("127.0.0.1", port, "--grpc-port")
    assert "--grpc-port" in caught.value.hint
    environment.check_port_is_free("127.0.0.1", port, "--grpc-port")


def test_free_ports_differ() -> None:
    assert len(set(environment.free_ports("127.0.0.1", 20))) == 20


def test_an_address_of_no_machine_here_is_told_with_the_option_that_names_it() -> None:
    with pytest.raises(ServerStartError, match=r"nothing can listen on 192\.0\.2\.1") as caught:
        environment.free_ports("192.0.2.1", 3)
    assert "--host" in caught.value.hint


def test_what_the_sdk_is_told_of_another_server_does_not_reach_ones_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DENSESCAN_TLS", "1")
    with environment.sdk_defaults():
        assert not set(OPTIONS.values()) & set(os.environ)
    assert os.environ["DENSESCAN_TLS"] == "1"
