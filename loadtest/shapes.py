"""How many users there are at what time, as data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Stage:
    """A part of a run: its share of the whole time, and of the largest number of users."""

    time: float
    users: float


SHAPES: dict[str, tuple[Stage, ...]] = {
    # The same from the beginning to the end.
    "steady": (Stage(1, 1),),
    # Up in steps, to see where latency leaves the ground.
    "steps": (Stage(1, 0.2), Stage(1, 0.4), Stage(1, 0.6), Stage(1, 0.8), Stage(1, 1)),
    # A rush out of a calm, and whether the calm returns.
    "spike": (Stage(3, 0.1), Stage(2, 1), Stage(3, 0.1)),
    # Long and even, after a warm-up, to see whether memory grows: give it ten minutes or more.
    "soak": (Stage(1, 0.2), Stage(19, 0.7)),
}


def users_at(shape: Sequence[Stage], seconds: float, most: int, at: float) -> int | None:
    """Number of users at a time.

    Args:
        shape: The stages.
        seconds: Length of the whole run.
        most: Users at a share of 1.
        at: Seconds since its beginning.

    Returns:
        At least 1; None when the run is over.
    """
    whole = sum(stage.time for stage in shape)
    end = 0.0
    for stage in shape:
        end += seconds * stage.time / whole
        if at < end:
            return max(1, round(most * stage.users))
    return None
