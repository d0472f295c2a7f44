"""What ``robustness`` does: open the networks, corrupt the pictures, ask, write the page."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from densescan.tasks import Task

from . import commands, families, layouts
from .console import out, progress, tell
from .corruptions import CORRUPTIONS, SEVERITIES, Grey
from .manifest import Entry, manifest_hash, read_manifest, warn_if_trained_on
from .pages import markdown_table
from .predictions import ROBUSTNESS, Predictions
from .robustness import Ask, Tried
from .runs import to_json


def run(
    task: Task,
    data: Path | None,
    manifest: Path | None,
    runs: Sequence[Path],
    models: Sequence[Path],
    urls: Sequence[str],
    fold: str,
    names: Sequence[str],
    images: int,
    target: Path | None,
    *,
    as_json: bool,
    as_markdown: bool,
) -> None:
    """Measure networks on corrupted pictures and write the page."""
    from . import metrics, robustness, robustness_page

    names = _chosen(names)
    if not (runs or models or urls):
        runs = [commands.newest_run(task, None).folder]
    networks = open_networks(task, runs, models, urls)
    manifest = manifest or (commands.newest_run(task, runs[0]).manifest if runs else commands.default_manifest(task))
    data = layouts.find_data(task, data)
    entries = sample(commands.filled(read_manifest(manifest, task.labels), fold), images)
    if fold != "train":
        for path in _files(task, runs, models):
            warn_if_trained_on(path, entries, task.labels)
    loaded = commands.read(task, entries, fold, data)
    own = metrics.own_films(loaded.entries)
    with progress("corrupting and asking", len(networks) * (2 + len(names) * len(SEVERITIES))) as done:
        others = [_asked(ask, loaded.grey[~own], len(task.labels), done) for ask in networks.values()]
        tried = robustness.attempt(networks, loaded.grey[own], names, done)
    groups = [entry.group for entry, is_own in zip(loaded.entries, own, strict=True) if is_own]
    figures: dict[str, Any] = {"task": task.name, "fold": fold, "manifest_sha256": manifest_hash(manifest)}
    figures |= robustness.figures(task, tried, loaded.classes[own], groups, names)
    named = families.names(task, loaded.entries, data)
    target = target or (runs[0] if runs else Path("runs") / task.name) / "robustness" / fold
    # The figures last, because they name the networks: interrupted, none stands beside another one's answers.
    (target / ROBUSTNESS).unlink(missing_ok=True)
    for place, (one, other) in enumerate(zip(tried, others, strict=True)):
        predictions = _predictions(one, other, own, loaded.entries, loaded.classes, named)
        predictions.write(target / f"predictions-{place + 1}.csv", task)
        figures["networks"][place]["clean"] = metrics.evaluate(
            task, loaded.classes, predictions.probabilities, loaded.entries, families=named
        )
    page = robustness_page.write_page(target, task, figures, loaded.grey[own][0])
    head, rows = robustness_page.summary(figures)
    if as_json:
        out.print_json(to_json(figures))
    elif as_markdown:
        out.print(markdown_table(head, rows), soft_wrap=True)
    else:
        for row in rows:
            tell("", row[0])
            for name, value in zip(head[1:], row[1:], strict=True):
                out.print(f"  {name:<28} {value}", soft_wrap=True)
        tell("\npage: ", page)


def _chosen(names: Sequence[str]) -> list[str]:
    if unknown := set(names) - CORRUPTIONS.keys():
        raise ValueError(f"no corruption {', '.join(sorted(unknown))}: choose among {', '.join(CORRUPTIONS)}")
    return [name for name in CORRUPTIONS if not names or name in names]


def open_networks(task: Task, runs: Sequence[Path], models: Sequence[Path], urls: Sequence[str]) -> dict[str, Ask]:
    """Trainings, files and servers as one kind of thing, in this order, by the names that reports give them.

    Raises:
        ValueError: A file is no network, or one is named twice.
    """
    from . import predictors

    def of_file(path: Path) -> Ask:
        predictor = predictors.open_model(path)
        return lambda grey: predictors.predict(predictor, grey)

    def of_server(url: str) -> Ask:
        return lambda grey: predictors.predict_served(url, task, list(grey))[0]

    found = [(path.as_posix(), of_file(path)) for path in _files(task, runs, models)]
    found += [(f"served at {url}", of_server(url)) for url in urls]
    networks = dict(found)
    if len(networks) < len(found):
        raise ValueError("a network was named twice; each needs naming once")
    return networks


def _files(task: Task, runs: Sequence[Path], models: Sequence[Path]) -> list[Path]:
    """The networks' files, those of trainings first."""
    return [*(commands.newest_run(task, folder).best_model for folder in runs), *models]


def sample(entries: Sequence[Entry], images: int) -> list[Entry]:
    """At most so many, drawn at random and the same each time; 0 is all."""
    if not images or images >= len(entries):
        return list(entries)
    chosen = np.random.default_rng(0).permutation(len(entries))[:images]
    return [entries[place] for place in sorted(chosen)]


def _asked(ask: Ask, grey: Grey, labels: int, done: Callable[[], None]) -> npt.NDArray[np.float32]:
    """A network's answers, or none where there are no pictures."""
    answers = ask(grey) if len(grey) else np.empty((0, labels), np.float32)
    done()
    return answers


def _predictions(
    one: Tried,
    other: npt.NDArray[np.float32],
    own: npt.NDArray[np.bool_],
    entries: tuple[Entry, ...],
    classes: npt.NDArray[np.int64],
    named: Sequence[str],
) -> Predictions:
    """A network's answers about all unchanged pictures, and the share of each own film's forms decided wrongly."""
    probabilities = np.empty((len(entries), one.clean.shape[1]), np.float32)
    probabilities[own], probabilities[~own] = one.clean, other
    errors = np.full(len(entries), np.nan)
    errors[own] = one.wrong(classes[own]).mean(axis=(0, 1))
    return Predictions(entries, classes, tuple(named), probabilities, errors)
