"""The command line: start the embedded Triton, say what it serves, pass signals on, return its exit code."""

from __future__ import annotations

import shlex
import signal
import sys
from pathlib import Path
from types import FrameType
from typing import Annotated

import typer
from rich.console import Console, Group, RenderableType
from rich.markup import escape
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from densescan.tasks import RESEARCH_ONLY, TASKS

from .embedded import DEFAULT_REPOSITORY, LOOPBACK, EmbeddedTriton
from .errors import ServerStartError
from .logs import LogPrinter
from .repository import Profile, RepositoryModel
from .supervision import RestartPolicy, keep_running

_HELP = """Serve the classifiers with the real NVIDIA Triton, without Docker and without a GPU.

The server listens on this machine only (127.0.0.1) and runs until Ctrl-C. Words after `--` are passed to
tritonserver as they are.

\b
Examples:
  python -m server                              everything, on the CPU, at the standard ports
  python -m server --grpc-port 0                gRPC at a free port; the start message names it
  python -m server --model xray_classifier      one model, and those that it calls
  python -m server --profile gpu                what a GPU serves; without one, the same files on the CPU
  python -m server --log-verbose                with Triton's own log
  python -m server --tls-cert server.pem --tls-key server-key.pem
  python -m server -- --rate-limit=off          with an option of tritonserver's own

\b
Then, in another shell:
  densescan classify xray your.png
"""

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)
console = Console(stderr=True, highlight=False)


@app.command(help=_HELP, context_settings={"help_option_names": ["-h", "--help"]})
def serve(
    tritonserver_options: Annotated[
        list[str] | None, typer.Argument(metavar="-- TRITONSERVER_OPTION", show_default=False)
    ] = None,
    profile: Annotated[
        Profile, typer.Option(help="cpu: OpenVINO, int8. gpu: the GPU's models, through ONNX Runtime here.")
    ] = "cpu",
    model_repository: Annotated[
        Path, typer.Option(metavar="DIR", show_default="model_repository", help="Folder of the models.")
    ] = DEFAULT_REPOSITORY,
    model: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", show_default="all", help="Serve this model and those it calls; may be repeated."),
    ] = None,
    host: Annotated[
        str, typer.Option(help="Address to listen on. Anything but loopback opens an unprotected server to others.")
    ] = LOOPBACK,
    grpc_port: Annotated[int, typer.Option(min=0, max=65535, help="0: any free port.")] = 8001,
    http_port: Annotated[int, typer.Option(min=0, max=65535, help="0: any free port.")] = 8000,
    metrics_port: Annotated[int, typer.Option(min=0, max=65535, help="0: any free port.")] = 8002,
    start_timeout_s: Annotated[float, typer.Option(min=1, help="Time for loading and warming up the models.")] = 180,
    exit_timeout_s: Annotated[int, typer.Option(min=0, help="Time for running inferences to finish at the end.")] = 30,
    tls_cert: Annotated[str, typer.Option(metavar="FILE", show_default="none", help="Serve gRPC with TLS.")] = "",
    tls_key: Annotated[str, typer.Option(metavar="FILE", show_default="none", help="Key of --tls-cert.")] = "",
    tls_client_ca: Annotated[
        str, typer.Option(metavar="FILE", show_default="none", help="Callers must show a certificate signed by it.")
    ] = "",
    restarts: Annotated[
        int, typer.Option(min=0, help="After crashes in a row, start it so many times again, waiting longer each time.")
    ] = RestartPolicy.restarts,
    log_verbose: Annotated[bool, typer.Option("--log-verbose", help="Show Triton's whole log.")] = False,
    log_file: Annotated[
        Path | None, typer.Option(metavar="FILE", show_default="none", help="Write Triton's whole log there as well.")
    ] = None,
) -> None:
    """Start it, and stay until it ends."""
    try:
        with LogPrinter(console, show_info=log_verbose, log_file=log_file) as printer:
            triton = EmbeddedTriton(
                model_repository,
                profile=profile,
                models=model or (),
                host=host,
                grpc_port=grpc_port,
                http_port=http_port,
                metrics_port=metrics_port,
                start_timeout_s=start_timeout_s,
                exit_timeout_s=exit_timeout_s,
                tls_cert=tls_cert,
                tls_key=tls_key,
                tls_client_ca=tls_client_ca,
                extra_options=tritonserver_options or (),
                on_log=printer,
            )
            sys.exit(run(triton, RestartPolicy(restarts)))
    except ServerStartError as error:  # the log file
        console.print(failure(error))
        sys.exit(1)


def run(triton: EmbeddedTriton, policy: RestartPolicy = RestartPolicy()) -> int:
    """Start a server, stay until it ends for good, and return what the shell shall see as the exit code."""
    signals = _Signals(triton)
    try:
        with console.status("Loading and warming up the models …"):
            triton.start()
        signals.serving = True
        console.print(welcome(triton))
        code = keep_running(triton, policy, stopping=lambda: signals.taken, on_event=warn)
    except ServerStartError as error:
        console.print(failure(error))
        return 1
    finally:
        triton.stop()
        signals.restore()
    console.print("Stopped." if code == 0 else f"tritonserver ended with exit code {code}.")
    return code if code >= 0 else 128 - code


def warn(event: str) -> None:
    """Tell a person of a crash."""
    console.print(Text(event, style="yellow"))


class _Signals:
    """SIGINT and SIGTERM: give up while it starts (again); else pass the first on, and take the second seriously."""

    def __init__(self, triton: EmbeddedTriton) -> None:
        self.serving = False
        self._triton = triton
        self._count = 0
        self._before = {number: signal.signal(number, self._take) for number in (signal.SIGINT, signal.SIGTERM)}

    @property
    def taken(self) -> bool:
        """Whether somebody asked for the end."""
        return self._count > 0

    def restore(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _take(self, number: int, _frame: FrameType | None) -> None:
        self._count += 1
        if self._count > 1:
            self._triton.send_signal(signal.SIGKILL)
        elif self.serving and self._triton.running:
            self._triton.send_signal(signal.Signals(number))
        else:
            raise SystemExit(128 + number)


def welcome(triton: EmbeddedTriton) -> Panel:
    """What a person wants to know of a server that has just become ready."""
    endpoints = Table.grid(padding=(0, 2))
    for name, address in (
        ("gRPC", triton.grpc_url),
        ("HTTP", f"http://{triton.http_url}"),
        ("metrics", triton.metrics_url),
    ):
        endpoints.add_row(name, Text(address, style="bold"))
    models = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    for column in ("model", "version", "backend", "state"):
        models.add_column(column)
    for served in triton.models:
        # Triton says it is ready only when every model is.
        models.add_row(served.name, str(served.versions[-1]), _backend(served), Text("ready", style="green"))
    notes = [Text(note, style="yellow") for note in triton.notes]
    first = Text.assemble("Try it:  ", (first_command(triton), "bold"))
    parts: list[RenderableType] = [endpoints, Text(), models, Text(), *notes, first, Text(RESEARCH_ONLY, style="dim")]
    return Panel(Group(*parts), title="densescan is serving", subtitle="Ctrl-C stops it", expand=False)


def first_command(triton: EmbeddedTriton) -> str:
    """A command that works at once, with the `densescan` of the Python that runs the server."""
    served = {model.name for model in triton.models}
    task = next((task.name for task in TASKS.values() if {task.classifier, task.ensemble} & served), None)
    beside = Path(sys.executable).with_name("densescan")
    program = shlex.quote(str(_relative(beside))) if beside.is_file() else "densescan"
    if triton.tls:
        program = f"DENSESCAN_CA_CERTIFICATE=ca.pem {program}"
    if triton.tls == "mutual":
        program = f"DENSESCAN_CLIENT_CERTIFICATE=client.pem DENSESCAN_CLIENT_KEY=client-key.pem {program}"
    if task is None:
        return f"{program} status --url {triton.grpc_url}"
    return f"{program} classify {task} your.png --url {triton.grpc_url}"


def failure(error: ServerStartError) -> Panel:
    """Why it did not start, and what to do."""
    parts: list[str] = [f"[bold]{escape(error.problem)}[/bold]"]
    if error.hint:
        parts.append(f"\nWhat to do: {escape(error.hint)}.")
    if error.log_tail:
        parts.append("\n[dim]" + escape("\n".join(error.log_tail)) + "[/dim]")
    return Panel("\n".join(parts), title="the server did not start", border_style="red", expand=False)


def _backend(model: RepositoryModel) -> str:
    return str(model.config.backend or model.config.platform)


def _relative(path: Path) -> Path:
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def main() -> None:
    """Entry point of ``python -m server``."""
    app(prog_name="python -m server")
