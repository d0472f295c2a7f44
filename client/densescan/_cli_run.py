"""The loop of the commands that go through many pictures: a progress bar, and an end where the server is gone."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeVar

from rich.console import Console
from rich.progress import Progress

from ._cli_files import Sources
from .errors import DensescanError, ModelNotFound, ServerUnavailable

Outcome = TypeVar("Outcome")


def watched(
    outcomes: Iterator[Outcome | DensescanError], pictures: Sources, title: str, screen: Console
) -> Iterator[Outcome | DensescanError]:
    """The outcomes, up to one that all later ones would share.

    Args:
        outcomes: What became of `pictures`, in their order.
        pictures: Where they come from.
        title: What stands before the bar, which is drawn on a terminal only.
        screen: Where the bar is drawn.
    """
    done = 0
    with Progress(console=screen, transient=True, disable=not screen.is_terminal) as progress:
        bar = progress.add_task(title, total=pictures.total, visible=pictures.total > 1)
        for outcome in outcomes:
            done += 1
            progress.update(bar, completed=done, total=pictures.total, visible=pictures.total > 1)
            yield outcome
            if isinstance(outcome, (ServerUnavailable, ModelNotFound)):
                break


def tell_untried(done: int, pictures: Sources, screen: Console) -> None:
    """Say how many pictures are left, if any are."""
    if done < pictures.total:
        screen.print(f"{pictures.total - done} of {pictures.total} pictures were not tried.")
