from __future__ import annotations

import dataclasses
import json
import pickle
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from densescan.results import Classification, decide
from densescan.tasks import MRI, XRAY

PROBABILITY = st.floats(0, 1)


def classification(**changes: Any) -> Classification:
    values: dict[str, Any] = {
        "task": "xray",
        "label": "PNEUMONIA",
        "confidence": 0.8000000119,
        "probabilities": {"NORMAL": 0.1999999881, "PNEUMONIA": 0.8000000119},
        "threshold": 0.35,
        "model": "xray_densenet121",
        "model_version": "2",
        "source": "a.png",
        "elapsed_ms": 12.3456789,
    }
    return Classification(**(values | changes))


@given(PROBABILITY, PROBABILITY)
def test_positive_exactly_from_the_threshold_on(p: float, threshold: float) -> None:
    label = decide(XRAY, {"NORMAL": 1 - p, "PNEUMONIA": p}, threshold)
    assert (label == "PNEUMONIA") == (p >= threshold)


@given(st.lists(PROBABILITY, min_size=4, max_size=4))
def test_without_a_threshold_the_most_probable_label_wins(values: list[float]) -> None:
    probabilities = dict(zip(MRI.labels, values, strict=True))
    assert probabilities[decide(MRI, probabilities, None)] == max(values)


@given(st.lists(PROBABILITY, min_size=4, max_size=4), PROBABILITY)
def test_a_threshold_means_nothing_to_a_task_without_a_positive_label(values: list[float], threshold: float) -> None:
    probabilities = dict(zip(MRI.labels, values, strict=True))
    assert decide(MRI, probabilities, threshold) == decide(MRI, probabilities, None)


def test_of_equal_labels_the_first_wins() -> None:
    assert decide(MRI, dict.fromkeys(MRI.labels, 0.25), None) == "glioma"


@pytest.mark.parametrize(("threshold", "label"), [(0.0, "PNEUMONIA"), (0.2, "PNEUMONIA"), (0.21, "NORMAL")])
def test_a_low_operating_point_outvotes_the_most_probable_label(threshold: float, label: str) -> None:
    assert decide(XRAY, {"NORMAL": 0.8, "PNEUMONIA": 0.2}, threshold) == label


def test_a_result_is_frozen_hashable_and_survives_a_process_pool() -> None:
    result = classification()
    with pytest.raises(dataclasses.FrozenInstanceError):
        result.label = "NORMAL"  # type: ignore[misc]
    assert pickle.loads(pickle.dumps(result)) == result
    assert len({result, classification()}) == 1


def test_to_dict_is_plain_json_with_every_field() -> None:
    record = json.loads(json.dumps(classification().to_dict()))
    assert record == {
        "source": "a.png",
        "task": "xray",
        "label": "PNEUMONIA",
        "confidence": 0.8,
        "probabilities": {"NORMAL": 0.2, "PNEUMONIA": 0.8},
        "threshold": 0.35,
        "model": "xray_densenet121",
        "model_version": "2",
        "elapsed_ms": 12.346,
        "warnings": [],
    }
    assert set(record) == {field.name for field in dataclasses.fields(Classification)}


def test_what_is_unknown_stays_null() -> None:
    record = classification(threshold=None, elapsed_ms=None, source=None).to_dict()
    assert (record["threshold"], record["elapsed_ms"], record["source"]) == (None, None, None)


def test_to_dict_keeps_six_decimals_of_a_probability() -> None:
    record = classification(confidence=0.12345678, probabilities={"NORMAL": 0.87654321, "PNEUMONIA": 0.12345678})
    assert record.to_dict()["confidence"] == 0.123457
    assert record.to_dict()["probabilities"] == {"NORMAL": 0.876543, "PNEUMONIA": 0.123457}
