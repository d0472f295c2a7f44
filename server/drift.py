"""Have the answers moved from those at the release? A table with bars, from a server's metrics or callers' answers."""

from __future__ import annotations

import http.client
import json
import os
import re
import urllib.request
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from rich.console import Console
from rich.table import Table

from densescan.drift import ENOUGH, Counts, count, released_counts, stability_index, verdict
from densescan.tasks import TASKS

from .embedded import DEFAULT_REPOSITORY
from .manifest import CARD

_HELP = """Compare what a server answers with what its network answered when it was released.

A server of the CPU profile counts its answers itself, since it started. The GPU profile's backend cannot: there,
compare what the callers kept. Either way nobody needs to know the right answers, and a shift is not yet a fault: it
asks a person to look (docs/OPERATIONS.md). The exit code is 1 for a large shift.

\b
Examples:
  python -m server.drift                                                the server on this machine
  python -m server.drift --metrics http://scans.example.org:8002/metrics --json
  densescan classify xray films/ --json > results.jsonl
  python -m server.drift --answers results.jsonl                        callers' answers, any profile
  python -m server.drift --record                                       from now on compare with what it sees today
"""

_CLASSIFIERS = {task.gradcam: task.classifier for task in TASKS.values()}
"""A gradient model's probabilities are those of the classifier that it was made of, which has the card."""

_SERIES = re.compile(r"^(densescan_answers_total|densescan_release_answers)\{(.*)\} (\S+)$", re.MULTILINE)
_LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')
_BAR = 16
_Version = tuple[str, str]
_Cell = tuple[str, float]

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)
console = Console(highlight=False)
err = Console(stderr=True, highlight=False)


class DriftError(RuntimeError):
    """There is nothing to compare; the message says why, and what to do."""


@dataclass(frozen=True)
class Comparison:
    """One version's answers beside those at its release.

    Attributes:
        model: Its name.
        version: Its version.
        labels: The rows of the counts.
        edges: Where the bins of probability begin, the columns of the counts.
        seen: Answers.
        released: Answers at release.
    """

    model: str
    version: str
    labels: list[str]
    edges: list[float]
    seen: Counts
    released: Counts

    @property
    def index(self) -> float:
        """The population stability index."""
        return stability_index(self.seen, self.released)

    @property
    def verdict(self) -> str:
        """The index in a word."""
        return verdict(self.index, self.seen.sum())

    def to_dict(self) -> dict[str, Any]:
        """The same as plain values."""
        return {
            **{"model": self.model, "version": self.version, "index": round(self.index, 4), "verdict": self.verdict},
            **{"answers": int(self.seen.sum()), "released_answers": int(self.released.sum()), "edges": self.edges},
            "seen": dict(zip(self.labels, self.seen.astype(int).tolist(), strict=True)),
            "released": dict(zip(self.labels, self.released.astype(int).tolist(), strict=True)),
        }


def from_metrics(text: str) -> list[Comparison]:
    """What a server's metrics say of every version that is counted.

    Args:
        text: In Prometheus' text format.

    Raises:
        DriftError: Of none.
    """
    seen: dict[_Version, dict[_Cell, float]] = {}
    released: dict[_Version, dict[_Cell, float]] = {}
    for name, written, value in _SERIES.findall(text):
        labels = dict(_LABEL.findall(written))
        key, cell = (labels["model"], labels["version"]), (labels["label"], float(labels["confidence"]))
        if name == "densescan_answers_total":  # of several processes
            cells = seen.setdefault(key, {})
            cells[cell] = cells.get(cell, 0.0) + float(value)
        else:
            released.setdefault(key, {})[cell] = float(value)
    if not seen and "nv_" not in text:
        raise DriftError("these are no metrics of Triton: their address ends in /metrics, and the port is usually 8002")
    if not seen:
        raise DriftError(
            "this server counts no answers: its profile is gpu, or its networks were released without the counts to "
            "compare with; compare callers' answers instead (--answers), or export the networks anew"
        )
    if lacking := seen.keys() - released.keys():
        raise DriftError(
            f"{min(lacking)[0]} is counted without the counts of its release to compare with: scrape again"
        )
    found = []
    for (model, version), cells in sorted(seen.items()):
        names, edges = sorted({label for label, _ in cells}), sorted({edge for _, edge in cells})
        at_release = released[model, version]
        found.append(
            Comparison(model, version, names, edges, _table(cells, names, edges), _table(at_release, names, edges))
        )
    return found


def from_answers(lines: Iterable[str], repository: Path) -> list[Comparison]:
    """What callers kept, beside the cards of the versions that answered them.

    Args:
        lines: Of ``densescan classify … --json``, or ``explain``; those of pictures that failed are passed over.
        repository: Where the cards are.

    Raises:
        DriftError: A line is none of those, or a version has no card that can be compared with.
    """
    answers: dict[_Version, list[dict[str, float]]] = {}
    for number, line in enumerate(lines, 1):
        try:
            answer: dict[str, Any] = json.loads(line) if line.strip() else {"error": "an empty line"}
            if "error" not in answer:
                model = str(answer["model"])
                key = _CLASSIFIERS.get(model, model), str(answer["model_version"])
                answers.setdefault(key, []).append({name: float(p) for name, p in answer["probabilities"].items()})
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise DriftError(f"line {number} is not one of `densescan classify … --json`") from error
    if not answers:
        raise DriftError("there is no answer among these lines")
    return [_against_card(model, version, rows, repository) for (model, version), rows in sorted(answers.items())]


def record(comparisons: Sequence[Comparison], repository: Path) -> list[Path]:
    """Have versions be compared with what was seen, from their next start on, and return their cards.

    Raises:
        DriftError: Of one too few answers were seen, or its card is not there; then none is changed.
    """
    for comparison in comparisons:
        if comparison.seen.sum() < ENOUGH:
            raise DriftError(
                f"{comparison.model} has given {comparison.seen.sum():.0f} answers: {ENOUGH} are the least to compare "
                "with; nothing was recorded"
            )
    cards = [_read_card(comparison.model, comparison.version, repository) for comparison in comparisons]
    for comparison, (path, card) in zip(comparisons, cards, strict=True):
        _record(comparison, path, card)
    return [path for path, _ in cards]


def _record(comparison: Comparison, path: Path, card: dict[str, Any]) -> None:
    seen = dict(zip(comparison.labels, comparison.seen.astype(int).tolist(), strict=True))
    card["drift"] = {"edges": comparison.edges, "answers": seen}
    aside = path.with_name(f".{path.name}.new")
    aside.write_text(json.dumps(card, indent=2) + "\n", encoding="utf-8")
    os.replace(aside, path)


def summary(comparison: Comparison) -> str:
    """One line for a person."""
    return (
        f"{comparison.model}, version {comparison.version}: {comparison.seen.sum():.0f} answers, "
        f"index {comparison.index:.3f}: {comparison.verdict}"
    )


def picture(comparison: Comparison) -> Table:
    """Both distributions as bars, a row for each label and bin."""
    table = Table(box=None, padding=(0, 2, 0, 0))
    for name in ("most probable", "with", "release", "", "seen", ""):
        table.add_column(name, justify="right" if name in ("release", "seen") else "left", no_wrap=True)
    released, seen = (counts / max(counts.sum(), 1) for counts in (comparison.released, comparison.seen))
    longest = max(released.max(), seen.max(), 1e-9)
    edges = comparison.edges
    bins = [
        f"under {edges[1]:g}",
        *(f"{low:g} to {high:g}" for low, high in zip(edges[1:], [*edges[2:], 1], strict=True)),
    ]
    for row, label in enumerate(comparison.labels):
        for column, name in enumerate(bins):
            before, now = released[row, column], seen[row, column]
            table.add_row(
                *(label if column == 0 else "", name),
                *(f"{before:.1%}", "▒" * round(_BAR * before / longest)),
                *(f"{now:.1%}", "█" * round(_BAR * now / longest)),
            )
    return table


@app.command(help=_HELP, context_settings={"help_option_names": ["-h", "--help"]})
def drift(
    metrics: Annotated[str, typer.Option(metavar="URL", help="Of a server's metrics.")] = (
        "http://127.0.0.1:8002/metrics"
    ),
    answers: Annotated[
        Path | None, typer.Option(metavar="FILE", show_default="none", help="JSON lines of callers, instead.")
    ] = None,
    model_repository: Annotated[
        Path, typer.Option(metavar="DIR", show_default="model_repository", help="Where the cards are.")
    ] = DEFAULT_REPOSITORY,
    save: Annotated[
        bool, typer.Option("--record", help="Write what was seen into the cards, to compare with from now on.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object per version instead.")] = False,
) -> None:
    """Compare, show, and record where that is asked for."""
    try:
        if answers is not None:
            found = from_answers(answers.read_text(encoding="utf-8").splitlines(), model_repository)
        else:
            with urllib.request.urlopen(metrics, timeout=10) as reply:
                found = from_metrics(reply.read().decode())
        for comparison in found:
            if as_json:
                typer.echo(json.dumps(comparison.to_dict()))
            else:
                console.print(summary(comparison), style="bold")
                console.print(picture(comparison))
        for path in record(found, model_repository) if save else []:
            err.print(f"{path}: compared with this from the next start on; sign the repository again if you sign it")
    except (DriftError, OSError, ValueError, http.client.HTTPException) as error:
        err.print(f"{answers or metrics}: {error}", style="red", markup=False)
        raise typer.Exit(2) from error
    raise typer.Exit(int(not save and any(one.verdict == "large shift" for one in found)))


def _table(cells: Mapping[_Cell, float], labels: list[str], edges: list[float]) -> Counts:
    return np.array([[cells.get((label, edge), 0.0) for edge in edges] for label in labels])


def _against_card(model: str, version: str, rows: list[dict[str, float]], repository: Path) -> Comparison:
    path, card = _read_card(model, version, repository)
    try:
        known = released_counts(card)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise DriftError(f"the counts in {path} cannot be read: bring the released file back") from error
    if known is None:
        raise DriftError(f"{path} holds no counts to compare with: export the network anew")
    labels, edges, released = known
    try:
        probabilities = np.array([[row[label] for label in labels] for row in rows])
    except KeyError as error:
        raise DriftError(f"an answer of {model} lacks the label {error}: {path} is another network's card") from error
    return Comparison(model, version, labels, edges, count(probabilities, edges), released)


def _read_card(model: str, version: str, repository: Path) -> tuple[Path, dict[str, Any]]:
    path = repository / model / version / CARD
    try:
        card: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise DriftError(f"{path}: {error.strerror}; pass the served repository (--model-repository)") from error
    return path, card


if __name__ == "__main__":
    app(prog_name="python -m server.drift")
