"""What the HTML pages share: one file each, with its pictures inside, so that it can be sent by mail."""

from __future__ import annotations

import base64
import html
import math
from collections.abc import Sequence
from pathlib import Path

from densescan.tasks import RESEARCH_ONLY

from .runs import write_text

_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>{title}</title><style>
body {{ font: 15px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem; color: #1b1b1b }}
h2 {{ margin-top: 2.2rem; font-size: 1.15rem }}
table {{ border-collapse: collapse; margin: 1rem 0; display: block; overflow-x: auto }}
td, th {{ padding: .3rem .9rem; border-bottom: 1px solid #ddd; text-align: left }}
td + td, th + th {{ text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap }}
img {{ max-width: 100% }}
.note {{ color: #555 }}
{style}</style></head><body><h1>{title}</h1><p class="note">{note}</p>{body}<p class="note">{research}</p>
</body></html>
"""


def page(title: str, note: str, *parts: str, style: str = "") -> str:
    """A whole page; `title` and `note` are text, `parts` are HTML, `style` is CSS of the page's own."""
    return _PAGE.format(
        title=html.escape(title),
        note=html.escape(note),
        body="".join(parts),
        research=html.escape(RESEARCH_ONLY),
        style=style,
    )


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table of text."""
    cells = "".join(f"<th>{html.escape(name)}</th>" for name in head)
    body = "".join("<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table><tr>{cells}</tr>{body}</table>"


def markdown_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """The same in Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "".join("| " + " | ".join(line) + " |\n" for line in lines)


def marks(place: str) -> tuple[str, str]:
    """The two lines of a document between which a command writes."""
    return f"<!-- {place}: begin -->", f"<!-- {place}: end -->"


def record(document: Path, place: str, text: str) -> None:
    """Write Markdown into a document, between the marks of that place.

    Raises:
        ValueError: The document has not got the marks; the message names them.
    """
    begin, end = marks(place)
    whole = document.read_text(encoding="utf-8")
    if whole.count(begin) != 1 or whole.count(end) != 1 or whole.index(begin) > whole.index(end):
        raise ValueError(f"{document} has no place for it: add the lines {begin} and {end}, once each")
    new = f"{whole.split(begin)[0]}{begin}\n{text}{end}{whole.split(end)[1]}"
    write_text(document, new)


def picture(path: Path) -> str:
    """A PNG file, inside the page."""
    data = base64.b64encode(path.read_bytes()).decode("ascii")
    return f'<p><img alt="{html.escape(path.stem.replace("_", " "))}" src="data:image/png;base64,{data}"></p>'


def bounded(value: float | None, interval: Sequence[float] | None, digits: int = 4) -> str:
    """A figure as text, with its interval in brackets where it has one; None is what is undefined, read from JSON."""
    text = f"{math.nan if value is None else value:.{digits}f}"
    return text if interval is None else text + " ({:.{d}f} to {:.{d}f})".format(*interval, d=digits)
