"""Numbers out of an input's range are refused for the request that sends them, and for no other."""

from __future__ import annotations

import numpy as np
import pytest

from . import fake_pb_utils as pb_utils
from . import tiny
from .fake_pb_utils import Request


def request(*indices: int) -> Request:
    return Request({"image": tiny.pictures(len(indices)), "class_index": np.array(indices, np.int32).reshape(-1, 1)})


def in_range(value: str, name: str = "class_index") -> dict[str, dict[str, dict[str, str]]]:
    return {"parameters": {f"range_of_{name}": {"string_value": value}}}


@pytest.mark.parametrize(("index", "told"), [(3, "3"), (-2, "-2"), (2**31 - 1, "2147483647")])
def test_a_number_out_of_range_is_refused_and_its_batch_mates_are_answered(initialized, index, told):
    good = request(1)
    responses = initialized("tiny_pair", **in_range("-1:2")).execute([good, request(index), good])
    assert responses[1].error.message() == f"input class_index must be within -1 and 2, not {told}"
    assert responses[1].error.code == pb_utils.TritonError.INVALID_ARG
    for response in (responses[0], responses[2]):
        np.testing.assert_array_equal(response["heatmap"], tiny.TABLE[[1]])


def test_the_ends_of_the_range_belong_to_it(initialized):
    responses = initialized("tiny_pair", **in_range("0:2")).execute([request(0, 2), request(2, 3), request(-1, 0)])
    np.testing.assert_array_equal(responses[0]["heatmap"], tiny.TABLE[[0, 2]])
    assert "not 3" in responses[1].error.message()
    assert "not -1" in responses[2].error.message()


@pytest.mark.parametrize("value", ["", "1", "a:b", "1:2:3", "0.5:2"])
def test_a_range_that_is_none_is_told_when_the_model_is_loaded(initialized, value):
    with pytest.raises(pb_utils.TritonModelException, match="range_of_class_index must be LOW:HIGH"):
        initialized("tiny_pair", **in_range(value))


def test_a_range_of_an_input_that_there_is_not_is_told_when_the_model_is_loaded(initialized):
    with pytest.raises(pb_utils.TritonModelException, match="there is no input 'class_indx'"):
        initialized("tiny_pair", **in_range("0:1", name="class_indx"))
