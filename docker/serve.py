"""What the server images start: check the weights, then run tritonserver with closed doors.

It ends when the process of a model has died, with exit code 1, so that whatever runs containers starts it again.

Everything is set by environment variables, so that compose.yaml, the Kubernetes files and ``docker run`` say the same:

=========================  ================  ==========================================================
DENSESCAN_PROFILE          cpu               cpu or gpu: which config of each model is served
DENSESCAN_MODELS           /models           the model repository; it may be read-only
DENSESCAN_ADDRESS          0.0.0.0           where to listen, inside the container
DENSESCAN_TLS_CERT, _KEY   none              files: gRPC is served with TLS
DENSESCAN_TLS_CLIENT_CA    none              file: gRPC callers must show a certificate of this authority
DENSESCAN_RELEASE_KEY      none              file: only a repository that its owner signed is served
DENSESCAN_ADMIN_KEY_FILE   a random key      file: whoever knows the key may use the closed parts of gRPC
DENSESCAN_OTLP_URL         none              traces go there, such as http://collector:4318/v1/traces
DENSESCAN_TRACE_RATE       0                 0: requests of traced callers only; n: one of every n requests too
DENSESCAN_EXIT_TIMEOUT_S   30                time for running inferences to finish when stopping
=========================  ================  ==========================================================

Arguments are passed to tritonserver, after its own.
"""

from __future__ import annotations

import hashlib
import logging
import os
import secrets
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from types import FrameType

try:
    from manifest import ManifestError, check_versions, sha256  # in the image they lie beside this file
    from shared_memory import Regions
    from signing import check as check_signature
    from stubs import ModelDied, run_watched
    from tls import TlsError, tls_options
except ImportError:
    from server.manifest import ManifestError, check_versions, sha256
    from server.shared_memory import Regions
    from server.signing import check as check_signature
    from server.stubs import ModelDied, run_watched
    from server.tls import TlsError, tls_options

log = logging.getLogger("densescan")

TRITONSERVER = "/opt/tritonserver/bin/tritonserver"

ENGINES = Path("/var/cache/densescan/tensorrt")
"""Where the GPU profile's configs have TensorRT's engines kept."""

STAMP = "built_from"
"""Name of the file beside them that says what they were built from."""

COULD_NOT_LOAD = 1
"""Exit code of a tritonserver that ends by itself, since it could not start."""

CLOSED_GRPC = ("shared-memory", "trace", "logging")
"""Loading and unloading belong to `model-repository`, which lists the models too: that is refused by the mode."""

CLOSED_HTTP = (
    *("metadata", "inference", "shared-memory", "model-config", "model-repository"),
    *("statistics", "trace", "logging"),
)
"""All but health. HTTP has no TLS in Triton: it is there for probes, and pictures come by gRPC."""


class SettingError(RuntimeError):
    """A variable has a value that cannot be meant."""


def options(environ: Mapping[str, str]) -> list[str]:
    """The options of tritonserver for a set of environment variables.

    Raises:
        SettingError: A variable is wrong; the message names it and what it may be.
    """
    profile = environ.get("DENSESCAN_PROFILE", "cpu")
    if profile not in ("cpu", "gpu"):
        raise SettingError(f"DENSESCAN_PROFILE is {profile!r}: it must be cpu or gpu")
    address = environ.get("DENSESCAN_ADDRESS", "0.0.0.0")
    return [
        f"--model-repository={environ.get('DENSESCAN_MODELS', '/models')}",
        # The GPU profile is each model's config.pbtxt, the file that is read when no name is given.
        *(["--model-config-name=cpu", "--allow-gpu-metrics=false"] if profile == "cpu" else []),
        *("--model-control-mode=none", "--strict-readiness=true", "--disable-auto-complete-config"),
        *(f"--grpc-address={address}", f"--http-address={address}", f"--metrics-address={address}"),
        # Instances that name a resource wait for it: on the CPU, one inference at a time has all the cores.
        "--rate-limit=execution_count",
        # Dead peers are noticed, and callers spread over new servers, as connections do not live for ever.
        *("--grpc-keepalive-time=60000", "--grpc-keepalive-timeout=10000"),
        *("--grpc-max-connection-age=600000", "--grpc-max-connection-age-grace=60000"),
        # Quantiles of the time in the server; Triton has counters and their means otherwise.
        *("--metrics-config=summary_latencies=true", "--metrics-config=summary_quantiles=0.5:0.05,0.9:0.01,0.99:0.001"),
        f"--exit-timeout-secs={environ.get('DENSESCAN_EXIT_TIMEOUT_S', '30')}",
        *_closed(environ),
        *_tls(environ),
        *_tracing(environ),
    ]


def _closed(environ: Mapping[str, str]) -> list[str]:
    path = environ.get("DENSESCAN_ADMIN_KEY_FILE")
    key = Path(path).read_text(encoding="utf-8").strip() if path else secrets.token_hex(32)
    if len(key) < 32 or not key.isalnum():
        raise SettingError(f"the key in {path} must be 32 or more letters and digits: openssl rand -hex 32")
    return [
        f"--grpc-restricted-protocol={','.join(CLOSED_GRPC)}:admin-key={key}",
        # A key of its own that nobody knows: HTTP travels in the clear.
        f"--http-restricted-api={','.join(CLOSED_HTTP)}:admin-key={secrets.token_hex(32)}",
    ]


def _tls(environ: Mapping[str, str]) -> list[str]:
    names = ("DENSESCAN_TLS_CERT", "DENSESCAN_TLS_KEY", "DENSESCAN_TLS_CLIENT_CA")
    return tls_options(*(environ.get(name, "") for name in names))


def _tracing(environ: Mapping[str, str]) -> list[str]:
    url = environ.get("DENSESCAN_OTLP_URL")
    if not url:
        return []
    settings = (
        *("mode=opentelemetry", "level=TIMESTAMPS", f"rate={environ.get('DENSESCAN_TRACE_RATE', '0')}"),
        *(f"opentelemetry,url={url}", "opentelemetry,resource=service.name=densescan"),
    )
    return [f"--trace-config={setting}" for setting in settings]


def drop_other_engines(repository: Path, engines: Path) -> int:
    """Delete the engines that were built from other networks than those of a repository.

    ONNX Runtime finds an engine by the names in a network and not by its weights: that of version 1 would be served as
    version 2. What those that stay were built from is written beside them; without that note none stays.

    Returns:
        How many files it deleted.
    """
    digest = hashlib.sha256()
    for path in sorted(repository.glob("*/[0-9]*/model.onnx*")):
        digest.update(f"{sha256(path)}  {path.relative_to(repository).as_posix()}\n".encode())
    stamp = engines / STAMP
    if not engines.is_dir() or (stamp.is_file() and stamp.read_text(encoding="utf-8") == digest.hexdigest()):
        return 0
    others = [path for path in engines.iterdir() if path.suffix in (".engine", ".profile", ".timing")]
    for path in (*([stamp] if stamp.exists() else []), *others):
        path.unlink()
    try:
        stamp.write_text(digest.hexdigest(), encoding="utf-8")
    except OSError as error:
        log.warning("engines are built anew at every start: %s", error)
    return len(others)


def _end(number: int, _frame: FrameType | None) -> None:
    raise SystemExit(128 + number)


def main() -> None:
    """Check, then run tritonserver until it ends."""
    # The first process of a container is not ended by a signal that it does not take, and checking takes seconds.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _end)
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    try:
        arguments = options(os.environ)
        repository = Path(os.environ.get("DENSESCAN_MODELS", "/models"))
        if not repository.is_dir():
            raise SettingError(f"there is no model repository at {repository}: mount it there, read-only")
        if release_key := os.environ.get("DENSESCAN_RELEASE_KEY"):
            log.info("%d files are as they were signed", check_signature(repository, Path(release_key)))
        checked = check_versions(path for path in repository.iterdir() if path.is_dir())
        if os.environ.get("DENSESCAN_PROFILE") == "gpu" and (count := drop_other_engines(repository, ENGINES)):
            log.info("%d files of other networks' TensorRT engines are deleted: new ones are built, for minutes", count)
        regions = Regions()
    except (SettingError, TlsError, ManifestError, OSError) as error:
        log.error("not starting: %s", error)
        sys.exit(1)
    log.info("the weights of %d model versions are the released ones", len(checked))
    program = os.environ.get("DENSESCAN_TRITONSERVER", TRITONSERVER)
    try:
        code = run_watched([program, *arguments, regions.option, *sys.argv[1:]])
        if code == COULD_NOT_LOAD:
            # It may be an engine that a full disk or a power cut left in part: the next start builds all anew.
            (ENGINES / STAMP).unlink(missing_ok=True)
    except ModelDied as error:
        log.error("%s", error)
        code = 1
    regions.close()
    sys.exit(code)


if __name__ == "__main__":
    main()
