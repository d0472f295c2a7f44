from __future__ import annotations

import pytest

from densescan.tasks import MRI, TASKS, XRAY, get_task


def test_labels_stand_in_the_order_of_the_network_outputs() -> None:
    assert XRAY.labels == ("NORMAL", "PNEUMONIA")
    assert MRI.labels == ("glioma", "meningioma", "notumor", "pituitary")


def test_only_a_task_with_a_finding_has_a_positive_label() -> None:
    assert (XRAY.positive, XRAY.positive_index) == ("PNEUMONIA", 1)
    assert (MRI.positive, MRI.positive_index) == (None, None)


@pytest.mark.parametrize("name", TASKS)
def test_a_task_is_found_by_name_and_names_its_models(name: str) -> None:
    task = get_task(name)
    assert get_task(task) is task
    assert (task.classifier, task.gradcam, task.ensemble) == (
        f"{name}_densenet121",
        f"{name}_gradcam",
        f"{name}_classifier",
    )


def test_an_unknown_task_names_those_that_exist() -> None:
    with pytest.raises(ValueError, match="unknown task 'ct': choose one of xray, mri"):
        get_task("ct")
