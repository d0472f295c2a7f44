"""The audit as files: one HTML page for people, its pictures, and the figures as JSON."""

from __future__ import annotations

import html
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from PIL import Image

from densescan.images import open_grey

from . import audit_plots, pages, plots
from .audit import Audit, figures
from .leakage import Leak, summed
from .manifest import fold_counts
from .runs import write_json, write_text

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_STYLE = """body { max-width: 76rem }
p { max-width: 52rem } p:has(> img) { max-width: none } code { font-size: .9em }
table { display: table } td + td, th + th { text-align: left; white-space: normal }
td.n, th.n { text-align: right; font-variant-numeric: tabular-nums }
tr.all td { font-weight: 600 } .scroll { overflow-x: auto }
details { margin: .3rem 0 } summary { cursor: pointer; color: #555 }
.cards { display: flex; flex-wrap: wrap; gap: .8rem; margin: 1.2rem 0 }
.card { border: 1px solid #ddd; border-radius: .5rem; padding: .6rem 1rem; min-width: 9.5rem }
.card b { display: block; font-size: 1.6rem; line-height: 1.3; font-variant-numeric: tabular-nums }
.warn b { color: #B84A00 } .card span { color: #555; font-size: .9rem }
"""


def names(manifest: Path) -> dict[str, Path]:
    """Where the audit of a manifest is written: ``audit.html`` and so on beside ``manifest.csv``.

    Beside a manifest of another name, that name stands before theirs: two manifests in a folder keep their audits.
    """
    before = "" if manifest.stem == "manifest" else f"{manifest.stem}-"
    files = {"page": "audit.html", "figures": "audit.json"}
    files |= {name: f"audit-{name}.png" for name in ("histogram", "threshold", "bands", "classes", "leaks")}
    return {name: manifest.with_name(before + file) for name, file in files.items()}


def write_audit(manifest: Path, audit: Audit, data: Path, on_done: Callable[[], None] = lambda: None) -> Path:
    """Write the page, its pictures and figures beside `manifest`; returns the page's path.

    Args:
        manifest: The manifest that was audited.
        audit: From `audit.audit`.
        data: The folder of the images, to show some.
        on_done: Called after each picture that is read; there are as many as `audit.paths` names.
    """
    where = names(manifest)
    thumbnails = read_thumbnails(sorted(audit.paths()), data, on_done)
    drawn: dict[str, Figure] = {"histogram": audit_plots.histogram(audit)}
    drawn["threshold"] = audit_plots.threshold_sheet(audit, thumbnails)
    drawn["bands"] = audit_plots.band_sheet(audit, thumbnails)
    if audit.across:
        drawn["classes"] = audit_plots.class_sheet(audit, thumbnails)
    drawn["leaks"] = audit_plots.leaks(audit)
    for name, path in where.items():
        if name in drawn:
            plots.save(drawn[name], path)
        elif path.suffix == ".png":
            path.unlink(missing_ok=True)  # of an earlier audit
    write_json(where["figures"], figures(audit))
    text = page(audit, manifest, {name: where[name] for name in drawn})
    write_text(where["page"], text)
    return where["page"]


def read_thumbnails(
    paths: Sequence[str], data: Path, on_done: Callable[[], None] = lambda: None
) -> dict[str, npt.NDArray[np.uint8]]:
    """Small grey pictures, squeezed to a square as the network sees them."""

    def one(path: str) -> npt.NDArray[np.uint8]:
        side = audit_plots.THUMBNAIL
        small = open_grey(data / path).resize((side, side), Image.Resampling.LANCZOS)
        on_done()
        return np.asarray(small)

    with ThreadPoolExecutor() as pool:
        return dict(zip(paths, pool.map(one, paths), strict=True))


def page(audit: Audit, manifest: Path, pictures: dict[str, Path]) -> str:
    """The page as HTML, with the pictures inside it."""
    show = {name: pages.picture(path) for name, path in pictures.items()}
    parts = [
        _cards(audit),
        "<h2>The folds</h2>",
        "<p>Pictures, without duplicates. A group is what must stay together: a patient, and whatever is equal or "
        "nearly equal to one of its pictures.</p>",
        _fold_table(audit),
        *_threshold_part(audit, show),
        *_leak_part(audit, show),
        *_left_out(audit),
    ]
    return pages.page(
        f"densescan: audit of the {audit.task.title} images",
        f"Written by python -m training split --task {audit.task.name} beside {manifest.name}. It shows pictures "
        "of the data set: pass it on only as the data set's licence allows.",
        *parts,
        style=_STYLE,
    )


def _cards(audit: Audit) -> str:
    used = sum(not entry.duplicate_of for entry in audit.entries)
    near = {path for pair in audit.pairs for path in (pair.first, pair.second)}
    across = sum(audit.labels[pair.first] != audit.labels[pair.second] for pair in audit.pairs)
    cards = [
        (f"{len(audit.entries):,}", "files that are pictures", False),
        (f"{audit.report.duplicates:,}", "equal another pixel by pixel", audit.report.duplicates > 0),
        (f"{len(near):,}", f"of the other {used:,} have a nearly equal one", bool(near)),
        (f"{sum(pair.mirrored for pair in audit.pairs):,}", f"of {len(audit.pairs):,} such pairs are mirrored", False),
        (f"{across:,}", "nearly equal pairs of two classes", across > 0),
        (f"{len(audit.report.conflicts):,}", "equal pictures in two classes", bool(audit.report.conflicts)),
        (f"{len(audit.report.unreadable):,}", "damaged files", bool(audit.report.unreadable)),
    ]
    made = "".join(
        f'<div class="card{" warn" if warn else ""}"><b>{value}</b><span>{html.escape(what)}</span></div>'
        for value, what, warn in cards
    )
    return f'<div class="cards">{made}</div>'


def _fold_table(audit: Audit) -> str:
    counts = fold_counts(audit.task.labels, audit.entries)
    numbers = [[*pictures, sum(pictures), groups] for _, pictures, groups in counts]
    rows: list[Sequence[object]] = [(row[0], *found) for row, found in zip(counts, numbers, strict=True)]
    rows.append(("all", *map(sum, zip(*numbers, strict=True))))
    return _table(("fold", *audit.task.labels, "all", "groups"), rows)


def _threshold_part(audit: Audit, show: dict[str, str]) -> list[str]:
    kept = (
        f"Pairs that reach {audit.threshold:g} are kept in one fold."
        if audit.asked < 1
        else f"This manifest keeps only equal pixels together (--near 1); the page judges by {audit.threshold:g}."
    )
    parts = [
        "<h2>Nearly equal pictures</h2>",
        "<p>Two pictures are compared by the correlation of small copies with their coarse shading taken out, as they "
        "are and mirrored: what was brightened, resized or compressed since still correlates, and what only has the "
        f"same outline does not. {html.escape(kept)}</p>",
        show["histogram"],
        "<h2>The pairs on either side of the threshold</h2>",
        "<p>The threshold is too low if pairs above the line show two patients, and too high if pairs below it show "
        "one picture. Pairs of two classes, which cannot be one picture, are framed.</p>",
        show["threshold"],
        "<h2>Pairs by their correlation</h2>",
        "<p>Drawn at random from each stretch, pairs of two classes first, no picture twice.</p>",
        show["bands"],
    ]
    if "classes" in show:
        parts += [
            "<h2>The most alike pictures of two classes</h2>",
            "<p>Where such a pair is one picture, one of its two classes is wrong, or both are right and the set "
            "cannot be told apart by looking.</p>",
            show["classes"],
        ]
    return parts


def _leak_part(audit: Audit, show: dict[str, str]) -> list[str]:
    parts = [
        "<h2>What a measurement would have seen before</h2>",
        "<p>Pictures of the folds that networks are measured on (val, test, official) with a twin in train, by how the "
        "set is cut with the same ratios and seed. A network is right on them by memory.</p>",
        show["leaks"],
        *(
            f"<details><summary>{html.escape(name)}, fold by fold</summary>{_leak_table(found, audit.task.labels)}"
            "</details>"
            for name, found in audit.cuts.items()
        ),
        "<h2>What this manifest leaves in train</h2>",
        "<p>Held-out pictures with a picture in train that correlates so much. Below the threshold these are other "
        "patients who look alike, and, in sets of slices, slices of one volume that lie further apart.</p>",
        _left_table(audit),
        "<h2>Between the folders that the set came with</h2>",
    ]
    if not audit.folders:
        return [*parts, "<p>The set came in one folder: there is nothing to leak.</p>"]
    return [*parts, _leak_table(audit.folders, audit.task.labels)]


def _left_table(audit: Audit) -> str:
    rows = []
    for edge, leaks in audit.left.items():
        found = [summed(some) for label in audit.task.labels if (some := [k for k in leaks if k.label == label])]
        cells = [f"{leak.share:.1%}" for leak in [*found, summed(leaks)]] if leaks else []
        rows.append((f"{edge:.4g} or more", *cells))
    return _table(("correlation", *audit.task.labels, "all"), rows)


def _leak_table(leaks: Sequence[Leak], labels: Sequence[str]) -> str:
    rows: list[tuple[object, ...]] = []
    for held, source in dict.fromkeys((leak.held, leak.source) for leak in leaks):
        some = [leak for leak in leaks if (leak.held, leak.source) == (held, source)]
        ordered = sorted(some, key=lambda leak: labels.index(leak.label))
        for leak in [*ordered, summed(some)] if len(some) > 1 else ordered:
            share = f"{leak.share:.1%}"
            rows.append(
                (
                    held or "(no folder)",
                    source or "(no folder)",
                    leak.label,
                    leak.pictures,
                    leak.equal,
                    leak.near,
                    share,
                )
            )
    head = ("pictures of", "that stand in", "class", "pictures", "equal", "nearly equal", "share")
    return _table(head, rows, text_columns=3)


def _left_out(audit: Audit) -> list[str]:
    parts = []
    if audit.report.conflicts:
        rows = [(", ".join(paths),) for paths in audit.report.conflicts]
        parts += ["<h2>Left out: equal pictures in several classes</h2>", _table(("files",), rows)]
    if audit.report.unreadable:
        parts += ["<h2>Left out: damaged files</h2>", _table(("file", "why"), audit.report.unreadable, text_columns=2)]
    return parts


def _table(head: Sequence[str], rows: Iterable[Sequence[object]], *, text_columns: int = 1) -> str:
    """The first columns as text, the rest as right-aligned numbers."""

    def row(cells: Sequence[object], tag: str, of_class: str = "") -> str:
        made = "".join(
            f"<{tag}{'' if place < text_columns else ' class=n'}>{html.escape(_text(cell))}</{tag}>"
            for place, cell in enumerate(cells)
        )
        return f"<tr{of_class}>{made}</tr>"

    made = [row(cells, "td", " class=all" if "all" in cells[:text_columns] else "") for cells in rows]
    return f'<div class="scroll"><table>{row(head, "th")}{"".join(made)}</table></div>'


def _text(cell: object) -> str:
    return f"{cell:,}" if isinstance(cell, int) else str(cell)
