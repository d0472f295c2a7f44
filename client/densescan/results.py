"""What a classification answers, and the rule that turns probabilities into a label. No I/O."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from .tasks import Task

DEFAULT_OPERATING_POINT: Final = 0.5
"""Threshold of a two-class model whose config names none."""

_JSON_DIGITS: Final = 6  # the network answers in float32, which holds no more


@dataclass(frozen=True)
class Classification:
    """One picture, classified.

    Attributes:
        task: Name of the task: ``xray`` or ``mri``.
        label: The decision. With a `threshold` it is not always the most probable label.
        confidence: Probability of `label`, 0 to 1.
        probabilities: Probability of every label, in the order of the network's outputs.
        threshold: The operating point that the label was decided at: positive from this
            probability on. None where the most probable label wins.
        model: Name of the served model that answered.
        model_version: Its version, as the server names it.
        source: How the picture was named: its path, or a description such as ``<bytes>``.
        elapsed_ms: From sending the request to receiving the answer, in milliseconds, without
            decoding the picture.
        warnings: What to know before trusting it, such as a modality that the network has not
            seen, each in a sentence.
    """

    task: str
    label: str
    confidence: float
    probabilities: Mapping[str, float] = field(hash=False)
    threshold: float | None
    model: str
    model_version: str
    source: str | None = None
    elapsed_ms: float | None = None
    warnings: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, object]:
        """The same as plain values that `json.dumps` takes; probabilities have 6 decimals."""
        return {
            "source": self.source,
            "task": self.task,
            "label": self.label,
            "confidence": round(self.confidence, _JSON_DIGITS),
            "probabilities": {label: round(p, _JSON_DIGITS) for label, p in self.probabilities.items()},
            "threshold": self.threshold,
            "model": self.model,
            "model_version": self.model_version,
            "elapsed_ms": None if self.elapsed_ms is None else round(self.elapsed_ms, 3),
            "warnings": list(self.warnings),
        }


def percent(probability: float) -> str:
    """A probability for people: never rounded up to certainty."""
    return f"{min(round(100 * probability, 1), 99.9):.1f}%"


def decide(task: Task, probabilities: Mapping[str, float], threshold: float | None) -> str:
    """The label of `probabilities`.

    With a threshold the positive label wins from that probability on, otherwise the most
    probable of the others; without one the most probable label wins, the first of equals.
    """
    if threshold is None or task.positive is None:
        return max(task.labels, key=probabilities.__getitem__)
    if probabilities[task.positive] >= threshold:
        return task.positive
    others = [label for label in task.labels if label != task.positive]
    return max(others, key=probabilities.__getitem__)
