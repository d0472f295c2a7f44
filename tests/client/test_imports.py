from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import densescan

from .fake_server import FakeTriton

HEAVY = ("grpc", "tritonclient", "numpy", "PIL", "typer", "rich")


def modules_after(code: str) -> set[str]:
    """The heavy packages that a fresh interpreter has imported after `code`."""
    probe = f"import sys\n{code}\nprint(*[name for name in {HEAVY} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True, timeout=60)
    return set(done.stdout.split())


def test_importing_densescan_imports_nothing_heavy() -> None:
    assert modules_after("import densescan") == set()


def test_making_a_client_does_not_import_grpc_nor_connect() -> None:
    assert modules_after("from densescan import Client\nClient('localhost:1').close()") == {"numpy", "PIL"}


def test_every_exported_name_can_be_imported() -> None:
    for name in densescan.__all__:
        assert getattr(densescan, name) is not None
    assert set(densescan.__all__) <= set(dir(densescan))
    assert {*densescan._EXPORTS, "__version__"} == set(densescan.__all__)


def test_a_name_that_does_not_exist_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'classify_ct'"):
        _ = densescan.classify_ct


def test_a_script_that_never_closes_its_client_ends_silently(fake: FakeTriton, film_path: Path) -> None:
    code = (
        "import sys, densescan\n"
        "client = densescan.Client()\n"
        "print(client.classify_xray(sys.argv[1]).label, densescan.classify_xray(sys.argv[1]).label)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(film_path)],
        env={**os.environ, "DENSESCAN_URL": fake.url},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.stdout, done.stderr) == ("PNEUMONIA PNEUMONIA\n", "")


def test_importing_densescan_takes_less_than_150_ms_of_processor_time() -> None:
    code = "import time; start = time.process_time()\nimport densescan\nprint(time.process_time() - start)"
    times = [float(subprocess.check_output([sys.executable, "-c", code], timeout=60)) for _ in range(3)]
    assert min(times) < 0.15
