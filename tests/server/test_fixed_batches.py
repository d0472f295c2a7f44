"""Networks compiled for a few batch sizes answer any batch as one that is compiled for all of them."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from . import fake_pb_utils
from .conftest import arguments
from .tiny import MAX_BATCH_SIZE, TABLE, TABLE_ROWS, expected_probabilities, pictures

Backend = Callable[..., Any]


@pytest.fixture
def backend(import_backend, tiny_repository) -> Backend:
    """An initialised backend of a tiny model, compiled for these sizes."""
    module = import_backend("densescan_openvino")

    def make(sizes: str, model: str = "tiny", **changes: Any) -> Any:
        parameters = {"INFERENCE_PRECISION": "f32", "INFERENCE_NUM_THREADS": "1", "FIXED_BATCH_SIZES": sizes}
        config = {"parameters": {key: {"string_value": value} for key, value in parameters.items()}, **changes}
        made = module.TritonPythonModel()
        made.initialize(arguments(tiny_repository / model, "cpu", **config))
        return made

    return make


@pytest.fixture
def parts(import_backend):
    import_backend("densescan_openvino")
    return sys.modules["compiling"].parts


def test_a_batch_is_cut_into_the_largest_sizes_first(parts):
    assert parts(11, [1, 4]) == [4, 4, 1, 1, 1]
    assert parts(16, [4, 1, 16]) == [16]
    assert parts(3, [1]) == [1, 1, 1]


def test_the_parts_of_every_batch_make_it_up(parts):
    @given(st.integers(1, 64), st.sets(st.integers(2, 16)))
    def check(total: int, others: set[int]) -> None:
        found = parts(total, [1, *others])
        assert sum(found) == total
        assert set(found) <= {1, *others}
        assert found == sorted(found, reverse=True)

    check()


@pytest.mark.parametrize("sizes", ["1", "1,2", "1, 4", "4,2,1", ""])
@pytest.mark.parametrize("count", range(1, MAX_BATCH_SIZE + 1))
def test_every_picture_of_a_batch_gets_its_own_answer(backend, sizes, count):
    images = pictures(count, seed=count)
    answers = backend(sizes)._run({"image": images})
    np.testing.assert_allclose(answers["probabilities"], expected_probabilities(images), rtol=1e-4)


def test_all_inputs_are_cut_at_the_same_places(backend):
    images = pictures(3)
    rows = np.array([[4], [0], [2]], np.int32)
    assert rows.max() < TABLE_ROWS
    answers = backend("1,2", "tiny_pair")._run({"image": images, "class_index": rows})
    np.testing.assert_array_equal(answers["heatmap"], TABLE[rows[:, 0]])
    np.testing.assert_allclose(answers["probabilities"], expected_probabilities(images), rtol=1e-4)


def test_it_runs_the_sizes_that_it_was_compiled_for_and_no_other(backend, monkeypatch):
    compiling = sys.modules["compiling"]
    ran: list[tuple[int, int]] = []
    make = compiling.runner

    def watched(compiled, settings):
        run, shape = make(compiled, settings), compiled.input("image").shape

        def noted(batch):
            ran.append((shape[0], len(batch["image"])))
            return run(batch)

        return noted

    monkeypatch.setattr(compiling, "runner", watched)
    made = backend("1,3")
    for count in range(1, MAX_BATCH_SIZE + 1):
        made._run({"image": pictures(count)})
    assert ran == [(1, 1), (1, 1), (1, 1), (3, 3), (3, 3), (1, 1)]


@pytest.mark.parametrize("sizes", ["2,4", "0,1", "1,5", "1;2", "-1,1", "one"])
def test_sizes_that_cannot_be_run_are_refused_when_the_model_is_loaded(backend, sizes):
    with pytest.raises(fake_pb_utils.TritonModelException, match="FIXED_BATCH_SIZES must be sizes of 1 to 4"):
        backend(sizes)


def test_an_open_side_cannot_be_compiled_for(backend):
    image = {"name": "image", "data_type": "TYPE_UINT8", "dims": [-1, -1, 3]}
    with pytest.raises(fake_pb_utils.TritonModelException, match="input 'image' has an open side"):
        backend("1", input=[image])
