from __future__ import annotations

import math

import numpy as np
import pytest

from densescan.tasks import MRI, XRAY, Task
from training import metrics, resampling
from training.manifest import Entry

CLASSES = np.array([0, 0, 1, 1, 1])
PROBABILITIES = np.array([[0.9, 0.1], [0.4, 0.6], [0.3, 0.7], [0.55, 0.45], [0.1, 0.9]], np.float32)
ENTRIES = [Entry(f"{place}.png", "", group, "val", "") for place, group in enumerate("aabcd")]


def test_the_figures_of_a_small_case_are_those_counted_by_hand() -> None:
    figures = metrics.evaluate(XRAY, CLASSES, PROBABILITIES, ENTRIES, resamples=0)
    assert figures["accuracy"] == pytest.approx(3 / 5)
    assert figures["confusion_matrix"] == [[1, 1], [1, 2]]
    assert figures["auroc"] == pytest.approx(5 / 6)  # of 2 x 3 pairs, only (0.6, 0.45) is in the wrong order
    assert figures["loss"] == pytest.approx(-np.log([0.9, 0.4, 0.7, 0.45, 0.9]).mean(), abs=1e-6)
    assert figures["classes"]["PNEUMONIA"] == pytest.approx(
        {"precision": 2 / 3, "recall": 2 / 3, "f1": 2 / 3, "support": 3}
    )
    assert (figures["images"], figures["groups"]) == (5, 4)


def test_at_an_operating_point_matrix_and_classes_are_of_the_decisions_and_accuracy_is_not() -> None:
    figures = metrics.evaluate(XRAY, CLASSES, PROBABILITIES, ENTRIES, threshold=0.65, resamples=20)
    assert figures["confusion_matrix"] == [[2, 0], [1, 2]]
    assert figures["classes"]["NORMAL"]["recall"] == figures["operating_point"]["specificity"] == 1
    assert figures["classes"]["NORMAL"]["intervals_95"]["recall"] == [1, 1]
    assert figures["accuracy"] == pytest.approx(3 / 5)
    assert figures["balanced_accuracy"] == pytest.approx((1 / 2 + 2 / 3) / 2)


def test_a_class_without_images_counts_for_nothing_in_the_balanced_accuracy() -> None:
    figures = metrics.evaluate(XRAY, CLASSES[2:], PROBABILITIES[2:], ENTRIES[2:], resamples=20)
    assert figures["balanced_accuracy"] == pytest.approx(2 / 3)
    assert not np.isnan(figures["intervals_95"]["balanced_accuracy"]).any()


def test_auroc_is_no_number_where_a_class_is_missing() -> None:
    assert math.isnan(metrics.auroc(MRI, np.array([0, 1, 2]), np.full((3, 4), 0.25, np.float32)))


def test_auroc_of_several_classes_is_the_mean_of_one_against_the_rest() -> None:
    perfect = np.eye(4, dtype=np.float32)
    assert metrics.auroc(MRI, np.arange(4), perfect) == 1.0
    assert metrics.auroc(MRI, np.arange(4), np.full((4, 4), 0.25, np.float32)) == 0.5


def test_intervals_hold_the_figure_and_are_wider_when_patients_have_many_images() -> None:
    rng = np.random.default_rng(0)
    patients = np.repeat(np.arange(40), 10)
    right = np.repeat(rng.random(40) < 0.8, 10)

    def interval(groups: list[str]) -> list[float]:
        return resampling.interval(resampling.share(right, np.full(400, True), resampling.draw(groups, 400)))

    by_patient = interval([str(patient) for patient in patients])
    by_image = interval([str(place) for place in range(400)])
    assert by_patient[0] <= right.mean() <= by_patient[1]
    assert by_patient[1] - by_patient[0] > 2 * (by_image[1] - by_image[0])


def test_a_decision_at_a_threshold_is_counted_by_hand() -> None:
    at = metrics.at_threshold(XRAY, CLASSES, PROBABILITIES, 0.65)
    expected = {"threshold": 0.65, "sensitivity": 2 / 3, "specificity": 1.0, "ppv": 1.0, "npv": 2 / 3, "accuracy": 0.8}
    assert at == pytest.approx(expected)


def test_calibration_error_is_the_gap_between_confidence_and_truth() -> None:
    confident = np.array([[0.9, 0.1]] * 10, np.float32)
    classes = np.array([0] * 9 + [1])
    assert metrics.calibration_error(classes, confident) == pytest.approx(0, abs=1e-6)
    assert metrics.calibration_error(1 - classes, confident) == pytest.approx(0.8, abs=1e-6)


def test_films_of_another_hospital_do_not_move_the_headline() -> None:
    adult = [Entry(f"nih_{place}_1.jpeg", "", f"nih_{place}", "val", "") for place in range(5)]
    alone = metrics.evaluate(XRAY, CLASSES, PROBABILITIES, ENTRIES, threshold=0.5, resamples=20)
    both = metrics.evaluate(
        XRAY,
        np.concatenate([CLASSES, 1 - CLASSES]),
        np.concatenate([PROBABILITIES, PROBABILITIES]),
        [*ENTRIES, *adult],
        threshold=0.5,
        resamples=20,
    )
    assert {name: both[name] for name in alone} == alone
    assert both["other_domains"]["adult"]["auroc"] == pytest.approx(1 - alone["auroc"])
    subgroup = both["families"]["NORMAL, adult"]
    assert subgroup == {"images": 3, "recall": pytest.approx(1 / 3), "interval_95": subgroup["interval_95"]}
    assert subgroup["interval_95"][0] <= 1 / 3 <= subgroup["interval_95"][1]


@pytest.mark.parametrize("task", [XRAY, MRI], ids=["xray", "mri"])
def test_every_figure_has_an_interval_that_holds_it(task: Task) -> None:
    rng = np.random.default_rng(1)
    count = len(task.labels)
    classes = rng.integers(0, count, 200)
    probabilities = (
        rng.dirichlet(np.ones(count), 200).astype(np.float32) + 0.3 * np.eye(count, dtype=np.float32)[classes]
    )
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    entries = [Entry(f"{place}.png", "", str(place // 2), "val", "") for place in range(200)]
    threshold = 0.4 if task.positive else None
    figures = metrics.evaluate(task, classes, probabilities, entries, threshold=threshold, resamples=300)
    names = {"accuracy", "balanced_accuracy", "auroc", "auprc", "loss", "brier", "ece"}
    wanted = {name: figures[name] for name in names}
    if threshold:
        point = figures["operating_point"]
        wanted |= {f"{name} at the operating point": point[name] for name in point if name != "threshold"}
    assert figures["intervals_95"].keys() == wanted.keys()
    for name, value in wanted.items():
        low, high = figures["intervals_95"][name]
        # Resampling adds noise, which a calibration error can only grow by.
        assert low * (0.8 if name == "ece" else 1) <= value <= high, name
        assert low < high, name
    for label in task.labels:
        row = figures["classes"][label]
        assert row["intervals_95"].keys() == row.keys() - {"support", "intervals_95"}
        for name, (low, high) in row["intervals_95"].items():
            assert low < row[name] < high, (label, name)


def test_of_several_classes_each_has_its_areas_against_the_rest() -> None:
    rng = np.random.default_rng(2)
    classes, probabilities = rng.integers(0, 4, 80), rng.dirichlet(np.ones(4), 80).astype(np.float32)
    entries = [Entry(f"{place}.png", "", str(place), "val", "") for place in range(80)]
    figures = metrics.evaluate(MRI, classes, probabilities, entries, resamples=0)
    for name in ("auroc", "auprc"):
        each = [figures["classes"][label][name] for label in MRI.labels]
        assert figures[name] == pytest.approx(np.mean(each))


def test_intervals_can_be_repeated() -> None:
    first = metrics.evaluate(XRAY, CLASSES, PROBABILITIES, ENTRIES, resamples=50)
    assert first == metrics.evaluate(XRAY, CLASSES, PROBABILITIES, ENTRIES, resamples=50)


def test_the_intervals_of_an_evaluation_draw_whole_patients() -> None:
    rng = np.random.default_rng(0)
    right = np.repeat(rng.random(40) < 0.8, 10)
    classes = np.repeat(rng.integers(0, 2, 40), 10)
    probabilities = np.full((400, 2), 0.3, np.float32)
    probabilities[np.arange(400), np.where(right, classes, 1 - classes)] = 0.7

    def width(groups: list[str], figure: str) -> float:
        entries = [Entry(f"{place}.png", "", group, "val", "") for place, group in enumerate(groups)]
        figures = metrics.evaluate(XRAY, classes, probabilities, entries, threshold=0.5, resamples=200)
        low, high = {**figures["intervals_95"], **figures["classes"]["PNEUMONIA"]["intervals_95"]}[figure]
        return high - low

    by_patient, by_image = [str(place // 10) for place in range(400)], [str(place) for place in range(400)]
    for figure in ("accuracy", "auroc", "recall"):
        assert width(by_patient, figure) > 2 * width(by_image, figure), figure


def test_a_network_that_rules_out_the_truth_has_a_finite_loss_and_interval() -> None:
    sure = np.array([[1, 0], [0, 1], [0, 1], [1, 0], [0, 1]], np.float32)
    figures = metrics.evaluate(XRAY, CLASSES, sure, ENTRIES, resamples=20)
    assert np.isfinite(figures["loss"])
    assert np.isfinite(figures["intervals_95"]["loss"]).all()


def test_certainty_falls_into_the_last_bin_of_calibration() -> None:
    assert metrics.calibration_bins(np.array([0.0, 0.5, 0.99, 1.0]), 10).tolist() == [0, 5, 9, 9]


def test_what_a_threshold_leaves_undefined_is_no_number() -> None:
    none_called = metrics.at_threshold(XRAY, CLASSES, PROBABILITIES, 0.99)
    assert (none_called["sensitivity"], none_called["specificity"]) == (0, 1)
    assert math.isnan(none_called["ppv"])
    all_called = metrics.at_threshold(XRAY, CLASSES, PROBABILITIES, 0.0)
    assert math.isnan(all_called["npv"])


def test_average_precision_is_no_number_where_a_class_is_missing() -> None:
    """Of no finding at all scikit-learn answers 0, as of a network that finds none."""
    for classes in (np.zeros(5, np.int64), np.ones(5, np.int64)):
        assert math.isnan(metrics.auprc(XRAY, classes, PROBABILITIES))


def test_where_all_films_are_another_hospitals_they_are_the_headline() -> None:
    adult = [Entry(f"nih_{place}_1.jpeg", "", f"nih_{place}", "val", "") for place in range(5)]
    assert metrics.own_films(adult).all()
    assert metrics.own_films([*ENTRIES, *adult]).tolist() == [True] * 5 + [False] * 5
    figures = metrics.evaluate(XRAY, CLASSES, PROBABILITIES, adult, resamples=0)
    assert figures["images"] == 5
    assert "other_domains" not in figures


def test_a_film_exactly_at_the_threshold_is_positive_as_it_is_to_the_sdk() -> None:
    probabilities = np.array([[0.75, 0.25], [0.8, 0.2], [0.2, 0.8]], np.float32)
    assert metrics.decided(XRAY, probabilities, 0.25).tolist() == [1, 0, 1]
