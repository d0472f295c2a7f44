from __future__ import annotations

import pickle

import pytest

from densescan import errors
from densescan.errors import DensescanError, InvalidImage

LEAVES = [
    errors.InvalidImage,
    errors.ServerUnavailable,
    errors.Overloaded,
    errors.DeadlineExceeded,
    errors.ModelNotFound,
    errors.InferenceFailed,
    errors.ClientClosed,
]


@pytest.mark.parametrize("error", LEAVES)
def test_one_root_catches_every_error(error: type[Exception]) -> None:
    assert issubclass(error, DensescanError)


@pytest.mark.parametrize(
    ("error", "builtin"),
    [
        (errors.InvalidImage, ValueError),
        (errors.ServerUnavailable, ConnectionError),
        (errors.DeadlineExceeded, TimeoutError),
    ],
)
def test_errors_are_the_builtin_ones_where_python_has_them(error: type, builtin: type) -> None:
    assert issubclass(error, builtin)


def test_invalid_image_names_source_and_reason_and_survives_a_process_pool() -> None:
    error = pickle.loads(pickle.dumps(InvalidImage("a.png", "is empty")))
    assert (error.source, error.reason, str(error)) == ("a.png", "is empty", "a.png: is empty")
