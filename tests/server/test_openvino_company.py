"""An inference that is alone has every core, one in company has its share."""

from __future__ import annotations

import subprocess
import sys
import time

import numpy as np
import pytest

from .conftest import arguments
from .tiny import expected_probabilities, pictures


@pytest.fixture
def module(import_backend):
    return import_backend("densescan_openvino")


@pytest.fixture
def settings(module):
    def make(instances: int, **parameters: str):
        return module.Settings(None, (), (), 4, parameters, False, 0, instances)

    return make


@pytest.mark.parametrize(
    ("cores", "instances", "parameters", "threads"),
    [
        (2, 2, {}, 1),
        (16, 2, {}, 8),
        (2, 1, {}, 2),
        (1, 4, {}, 1),
        (16, 2, {"SHARED_NUM_THREADS": "3"}, 3),
        (16, 2, {"SHARED_NUM_THREADS": "0"}, 8),
    ],
)
def test_cores_are_divided_among_a_models_instances(
    module, settings, monkeypatch, cores, instances, parameters, threads
):
    monkeypatch.setattr(module, "available_cores", lambda: cores)
    assert module.shared_threads(settings(instances, **parameters)) == threads


def test_who_computes_while_no_other_does_is_alone(module):
    first, second = module.Company(), module.Company()
    with first as others:
        assert not others
        with second as others:
            assert others
        with second as others:
            assert others
    with second as others:
        assert not others
        with first as others:
            assert others


def test_who_fails_leaves_the_company(module):
    first, second = module.Company(), module.Company()
    with pytest.raises(RuntimeError), first:
        raise RuntimeError
    with second as others:
        assert not others


def test_another_process_is_company_until_it_dies(module):
    code = (
        "import fcntl, os, sys, time\n"
        "fcntl.flock(os.open(sys.argv[1], os.O_RDONLY), fcntl.LOCK_SH)\n"
        "print('computes', flush=True)\n"
        "time.sleep(60)"
    )
    process = subprocess.Popen([sys.executable, "-c", code, module.__file__], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "computes\n"
        with module.Company() as others:
            assert others
    finally:
        process.kill()
        process.communicate()
    deadline = time.monotonic() + 5
    alone = False
    while not alone and time.monotonic() < deadline:
        with module.Company() as others:
            alone = not others
    assert alone


def test_alone_and_in_company_it_answers_alike_with_the_threads_that_it_should_have(
    module, tiny_repository, monkeypatch
):
    monkeypatch.setattr(module, "available_cores", lambda: 2)
    monkeypatch.setattr("batched_backend.available_cores", lambda: 2)  # what Settings.threads asks
    used: list[int] = []
    compiling = sys.modules["compiling"]
    make = compiling.runner

    def watched(compiled, settings):
        run, threads = make(compiled, settings), int(compiled.get_property("INFERENCE_NUM_THREADS"))

        def counted(batch):
            used.append(threads)
            return run(batch)

        return counted

    monkeypatch.setattr(compiling, "runner", watched)
    backend = module.TritonPythonModel()
    changes = {"parameters": {"INFERENCE_PRECISION": {"string_value": "f32"}}, "instance_group": [{"count": 2}]}
    backend.initialize(arguments(tiny_repository / "tiny", "cpu", **changes))
    assert used == [1, 1]  # the batches of one and of the largest size that it warms up with
    images = pictures(3)
    alone = backend._run({"image": images})["probabilities"]
    with module.Company():
        shared = backend._run({"image": images})["probabilities"]
    assert used[2:] == [2, 1]
    np.testing.assert_allclose(alone, expected_probabilities(images), rtol=1e-4)
    np.testing.assert_allclose(shared, alone, rtol=1e-5)
