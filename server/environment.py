"""What this machine and this Python must have for the embedded Triton, found and checked."""

from __future__ import annotations

import contextlib
import ctypes
import importlib.util
import os
import platform
import socket
import sys
import sysconfig
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from densescan._options import OPTIONS

from .errors import ServerStartError

_MACHINES = ("x86_64", "aarch64")
_MODEL_PACKAGES = ("densescan", "numpy", "PIL", "openvino", "onnxruntime", "pydicom")
"""What the Python processes of the models import; those not installed are simply not there."""


@dataclass(frozen=True)
class Installation:
    """Where the parts of the embedded Triton lie."""

    tritonserver: Path
    python_backend: Path
    stub: Path
    libraries: tuple[Path, ...]
    python_bin: Path
    python_path: tuple[Path, ...]

    def environment(self, base: Mapping[str, str]) -> dict[str, str]:
        """Environment variables for tritonserver and for the Python processes that it starts."""
        return {
            **base,
            "LD_LIBRARY_PATH": _joined(self.libraries, base.get("LD_LIBRARY_PATH")),
            # The models' Python takes its standard library and its site-packages from beside the first python3
            # on PATH, and minds PYTHONPATH in some versions only (python/cpython issue 101471): so both.
            "PATH": _joined((self.python_bin,), base.get("PATH")),
            "PYTHONPATH": _joined(self.python_path, base.get("PYTHONPATH")),
        }


def find_installation() -> Installation:
    """Find everything that the embedded Triton needs.

    Raises:
        ServerStartError: Something is missing; the message says what, and what to do.
    """
    _check_platform()
    root = _wheel_folder()
    tritonserver = root / "tritonserver/bin/tritonserver"
    stub = root / f"tritonserver/python_backend_stubs/{_version()}/triton_python_backend_stub"
    if not stub.is_file():
        known = sorted((path.name for path in stub.parent.parent.glob("3.*")), key=lambda name: int(name[2:]))
        raise ServerStartError(
            f"the embedded Triton has no stub for Python {_version()}, only for {', '.join(known)}",
            "make the virtual environment with one of those versions",
        )
    libpython = find_libpython()
    return Installation(
        tritonserver=tritonserver,
        python_backend=root / "tritonserver/backends/python",
        stub=stub,
        libraries=(root.parent / "nvidia_pytriton.libs", libpython.parent),
        python_bin=Path(sys.executable).parent,
        python_path=_python_path(),
    )


def find_libpython() -> Path:
    """The shared library of this Python's version, which Triton's Python processes are linked against.

    Raises:
        ServerStartError: There is none.
    """
    name = f"libpython{_version()}.so.1.0"
    for folder in _library_folders():
        if (folder / name).is_file():
            return folder / name
    raise ServerStartError(
        f"{name} is missing: Triton's Python processes are linked against it",
        f"install the Debian/Ubuntu package libpython{_version()},"
        " or use a Python that was built with --enable-shared (those of conda and uv are)",
    )


def visible_gpus() -> int:
    """Number of CUDA devices that this process may use; 0 without a driver."""
    try:
        cuda = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return 0
    count = ctypes.c_int(0)
    if cuda.cuInit(0) != 0 or cuda.cuDeviceGetCount(ctypes.byref(count)) != 0:
        return 0
    return count.value


def check_port_is_free(host: str, port: int, option: str) -> None:
    """Make sure that a port can be listened on.

    Raises:
        ServerStartError: It cannot; the message names the port and the option that changes it.
    """
    with socket.socket() as probe:
        # As servers do, so that connections of a server just stopped are no obstacle.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise ServerStartError(
                f"port {port} on {host} cannot be used ({error.strerror})",
                f"stop what listens there, or choose another with {option} (0: any free port)",
            ) from error


@contextlib.contextmanager
def sdk_defaults() -> Iterator[None]:
    """Unset the SDK's variables meanwhile: they describe another server than the one that is started here."""
    meant_for_another = {name: os.environ.pop(name) for name in OPTIONS.values() if name in os.environ}
    try:
        yield
    finally:
        os.environ.update(meant_for_another)


def free_ports(host: str, count: int) -> list[int]:
    """Ports that nobody listens on, all different.

    Raises:
        ServerStartError: There is no such address here.
    """
    probes = [socket.socket() for _ in range(count)]
    try:
        for probe in probes:
            try:
                probe.bind((host, 0))
            except OSError as error:
                raise ServerStartError(
                    f"nothing can listen on {host} ({error.strerror})", "name an address of this machine with --host"
                ) from error
        return [probe.getsockname()[1] for probe in probes]
    finally:
        for probe in probes:
            probe.close()


def _check_platform() -> None:
    if sys.platform != "linux" or platform.machine() not in _MACHINES:
        raise ServerStartError(
            f"the embedded Triton runs on Linux ({' or '.join(_MACHINES)}), not on {sys.platform} {platform.machine()}",
            "serve model_repository/ with the official Triton container instead (see docker/)",
        )


def _wheel_folder() -> Path:
    spec = importlib.util.find_spec("pytriton")
    folder = Path(spec.origin).parent if spec and spec.origin else None
    if folder is None or not (folder / "tritonserver/bin/tritonserver").is_file():
        raise ServerStartError(
            "the package nvidia-pytriton, which carries tritonserver, is not installed in this Python",
            f'install the extra "serve" into it: {sys.executable} -m pip install -e ".[serve]"',
        )
    return folder


def _version() -> str:
    return f"{sys.version_info.major}.{sys.version_info.minor}"


def _library_folders() -> list[Path]:
    """Where a libpython may lie: this Python's own first, then the system's."""
    own = [sysconfig.get_config_var("LIBDIR") or "", os.path.join(sys.base_prefix, "lib")]
    multiarch = sysconfig.get_config_var("MULTIARCH") or f"{platform.machine()}-linux-gnu"
    system = [f"/usr/lib/{multiarch}", "/usr/lib64", "/usr/lib", "/usr/local/lib"]
    return [Path(folder) for folder in [*own, *system] if folder]


def _python_path() -> tuple[Path, ...]:
    """Folders that hold the packages of the models' Python processes.

    Not `sys.path`: an editable install is found by a hook of this interpreter, which those do not run.
    """
    specs = [importlib.util.find_spec(name) for name in _MODEL_PACKAGES]
    packages = [Path(spec.origin).parent.parent for spec in specs if spec and spec.origin]
    site = [Path(sysconfig.get_path(key)) for key in ("purelib", "platlib")]
    return tuple(dict.fromkeys([*packages, *site]))


def _joined(paths: tuple[Path, ...], inherited: str | None) -> str:
    return os.pathsep.join([*map(str, paths), *([inherited] if inherited else [])])
