"""Fuzzing by coverage of all that turns the bytes of a file into pixels. Needs ``pip install atheris`` (Linux, macOS).

python -m tests.client.fuzz_images                          until Ctrl-C, beginning with one film in every format
python -m tests.client.fuzz_images -max_total_time=600      for ten minutes
python -m tests.client.fuzz_images out/crash-0123           what a file that it has found does

Further arguments are libFuzzer's. What it learns and finds is kept in out/, or in a folder that is named. A file may
cost an InvalidImage, five seconds and a gigabyte, and no word of its patient.
"""

from __future__ import annotations

import itertools
import logging
import sys
import warnings
from pathlib import Path

try:
    import atheris
except ImportError:
    sys.exit("atheris is not installed: pip install atheris")

with atheris.instrument_imports(include=["densescan", "PIL", "pydicom"]):
    from densescan.errors import InvalidImage
    from densescan.images import frames, open_picture
    from densescan.preprocessing import DETAIL

from . import dicom_files
from .test_formats import DICOMS, FORMS

MAX_PIXELS = 1_000_000
"""So few that an iteration is fast; the largest pictures have tests of their own."""

FRAMES = 3
OUT = Path("out")
LIMITS = ("-timeout=5", "-rss_limit_mb=1024")
SECRETS = ("secret", "jane", dicom_files.PATIENT_ID.lower())


def one_input(data: bytes) -> None:
    """Decode what claims to be a picture in both ways that the SDK does.

    Raises:
        AssertionError: A picture is not what it should be, or a message names the patient.
    """
    try:
        picture = open_picture(data, at_least=DETAIL, max_pixels=MAX_PIXELS)
        assert picture.image.mode == "L"
        assert not any(secret in repr(picture).lower() for secret in SECRETS)
        for frame in itertools.islice(frames(data, max_pixels=MAX_PIXELS), FRAMES):
            assert frame.image.mode == "L"
    except InvalidImage as error:
        said = f"{error} {error.__cause__!r}".lower()
        assert not any(secret in said for secret in SECRETS), said


def write_seeds(folder: Path) -> None:
    """One film in every format, one file each."""
    made = [make() for make, _ in FORMS.values()]
    for number, data in enumerate([*(each for each in made if isinstance(each, bytes)), *DICOMS]):
        (folder / f"seed-{number:02}").write_bytes(data)


def main() -> None:
    """Fuzz as the command line says."""
    warnings.simplefilter("ignore")  # the decoders' own, about damaged files
    logging.disable(logging.CRITICAL)
    arguments = sys.argv[1:]
    named = [Path(argument) for argument in arguments if not argument.startswith("-")]
    folder = next((path for path in named if path.is_dir()), OUT / "fuzz")
    if not any(path.is_file() for path in named):
        folder.mkdir(parents=True, exist_ok=True)
        if not any(folder.iterdir()):
            write_seeds(folder)
        if not named:
            arguments.append(str(folder))
    atheris.Setup([sys.argv[0], f"-artifact_prefix={folder.parent}/", *LIMITS, *arguments], one_input)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
