"""What callers ask for, in which shares."""

from __future__ import annotations

import math

from densescan.tasks import MRI, TASKS, XRAY

MODELS: dict[str, tuple[str, ...]] = {
    "classify_xray": (XRAY.classifier,),
    "classify_mri": (MRI.classifier,),
    "explain": (XRAY.gradcam,),
    "encoded": tuple(task.ensemble for task in TASKS.values()),
}
"""The kinds of call, and the models that each needs."""

DEFAULT_MIX = "classify_xray=6,classify_mri=3,explain=1,encoded=2"


def parse_mix(text: str) -> dict[str, float]:
    """Shares by kind of call, from ``classify_xray=6,explain=1``.

    Raises:
        ValueError: A kind is unknown or twice, a share is no number of 0 or more, or nothing is left.
    """
    mix: dict[str, float] = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        kind, _, share = part.partition("=")
        if kind not in MODELS:
            raise ValueError(f"unknown kind of call {kind!r}: choose among {', '.join(MODELS)}")
        if kind in mix:
            raise ValueError(f"{kind} is given twice")
        mix[kind] = _share(kind, share or "1")
    mix = {kind: share for kind, share in mix.items() if share}
    if not mix:
        raise ValueError("the mix is empty")
    return mix


def _share(kind: str, text: str) -> float:
    try:
        share = float(text)
    except ValueError:
        share = math.nan
    if not 0 <= share < math.inf:
        raise ValueError(f"the share of {kind} is {text!r}; expected a number, 0 or more")
    return share
