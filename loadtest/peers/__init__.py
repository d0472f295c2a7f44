"""Other ways to serve the same network, each set up as its own documentation recommends."""

from __future__ import annotations


def chosen(names: str) -> list[str]:
    """Names with commas between, or ``all``, as a list."""
    return []


def measure(*args):  # noqa
    raise NotImplementedError
