"""Explaining, against a server of our own that answers what we want."""

from __future__ import annotations

import asyncio
import io
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import densescan
from densescan import AsyncClient, Client, Explanation, images
from densescan.colormaps import colours
from densescan.errors import InferenceFailed, InvalidImage
from densescan.phantoms import draw_phantom
from densescan.preprocessing import DETAIL, preprocess

from . import dicom_files
from .explanations import spike
from .fake_server import FakeTriton, answer, config

MAP = np.random.default_rng(0).random((7, 7), np.float32)


def explained(probabilities: Sequence[float], heatmap: Any = MAP, *, version: str = "1", name: str = "heatmap") -> Any:
    """A ModelInferResponse of a gradient model."""
    response = answer(probabilities, version=version)
    values = np.asarray(heatmap)[np.newaxis]
    kind = "FP32" if values.dtype == np.float32 else "FP64"
    response.outputs.add(name=name, datatype=kind).shape.extend(values.shape)
    response.raw_output_contents.append(values.tobytes())
    return response


def class_index(request: Any) -> int:
    """The class that a request asks to explain."""
    position = [tensor.name for tensor in request.inputs].index("class_index")
    assert (request.inputs[position].datatype, list(request.inputs[position].shape)) == ("INT32", [1, 1])
    return int(np.frombuffer(request.raw_input_contents[position], np.int32)[0])


@pytest.fixture
def fake(fake: FakeTriton) -> FakeTriton:
    fake.on_infer = lambda request, context: explained(
        [0.2, 0.8] if request.model_name.startswith("xray") else [0.1, 0.2, 0.3, 0.4]
    )
    return fake


@pytest.fixture
def client(fake: FakeTriton) -> Iterator[Client]:
    with Client(fake.url, timeout_s=5) as client:
        yield client


# Requests and answers


def test_picture_and_class_are_sent_and_come_back_explained(
    client: Client, fake: FakeTriton, film_path: Path, film: Image.Image
) -> None:
    explanation = client.explain_xray(film_path, model_version="1")
    (request,) = fake.asked("ModelInfer")
    assert (request.model_name, request.model_version) == ("xray_gradcam", "1")
    assert {output.name for output in request.outputs} == {"probabilities", "heatmap"}
    assert request.raw_input_contents[0] == preprocess(film_path).tobytes()
    assert class_index(request) == -1
    np.testing.assert_array_equal(explanation.heatmap, MAP)
    assert not explanation.heatmap.flags.writeable
    result = explanation.classification
    assert (result.label, result.model, result.model_version) == ("PNEUMONIA", "xray_gradcam", "1")
    assert (explanation.target, explanation.size, result.source) == ("PNEUMONIA", film.size, str(film_path))
    np.testing.assert_array_equal(np.asarray(explanation.picture), np.asarray(film))


@pytest.mark.parametrize("label", densescan.TASKS["mri"].labels)
def test_the_label_to_explain_is_sent_as_its_number(client: Client, fake: FakeTriton, label: str, film: Any) -> None:
    explanation = client.explain_mri(film, target=label)
    assert explanation.target == label
    assert explanation.classification.label == "pituitary"
    assert class_index(fake.asked("ModelInfer")[-1]) == densescan.TASKS["mri"].labels.index(label)


def test_an_unknown_label_is_refused_before_anything_is_sent(client: Client, fake: FakeTriton, film: Any) -> None:
    for call in (client.explain_mri, lambda image, target: client.explain_many("mri", [image], target=target)):
        with pytest.raises(ValueError, match="target is 'PNEUMONIA'; a brain MRI slice is one of glioma"):
            call(film, target="PNEUMONIA")  # type: ignore[operator]
    assert not fake.requests


def test_the_operating_point_is_the_gradient_models_own(client: Client, fake: FakeTriton, film: Any) -> None:
    fake.on_config = lambda request, context: config(
        operating_point="0.7" if request.name == "xray_gradcam" else "0.99"
    )
    assert client.explain_xray(film).classification.threshold == 0.7
    assert client.classify_xray(film).threshold == 0.99


def test_a_label_that_the_threshold_decided_for_is_the_one_explained(
    client: Client, fake: FakeTriton, film: Any
) -> None:
    maps = {-1: spike(0, 0), 0: spike(1, 1), 1: spike(2, 2)}
    fake.on_infer = lambda request, context: explained([0.45, 0.55], maps[class_index(request)], version="4")
    explanation = client.explain_xray(film, threshold=0.6)  # more probable PNEUMONIA, but decided NORMAL
    assert (explanation.classification.label, explanation.target) == ("NORMAL", "NORMAL")
    assert explanation.heatmap[1, 1] == 1
    assert [(class_index(request), request.model_version) for request in fake.asked("ModelInfer")] == [
        (-1, ""),
        (0, "4"),
    ]


def test_one_request_is_enough_where_the_threshold_decides_for_the_more_probable(
    client: Client, fake: FakeTriton, film: Any
) -> None:
    client.explain_xray(film, threshold=0.7)
    client.explain_xray(film, threshold=0.9, target="PNEUMONIA")
    assert len(fake.asked("ModelInfer")) == 2


@pytest.mark.parametrize(("peak", "given"), [(np.float32(0.99999994), 1.0), (np.float32(0.9), np.float32(0.9))])
def test_a_peak_that_rounding_lowered_is_given_as_one_and_no_other(
    client: Client, fake: FakeTriton, film: Any, peak: np.float32, given: float
) -> None:
    fake.on_infer = lambda request, context: explained([0.2, 0.8], MAP / MAP.max() * peak)
    assert client.explain_xray(film).heatmap.max() == given


def test_pictures_are_explained_in_their_order_and_a_bad_one_spoils_only_itself(client: Client, film: Any) -> None:
    outcomes = list(client.explain_many("mri", [film, b"no picture", film]))
    assert [type(outcome) for outcome in outcomes] == [Explanation, InvalidImage, Explanation]


def test_every_frame_of_a_series_is_explained(client: Client, tmp_path: Path) -> None:
    ramp = np.tile(np.arange(256, dtype=np.uint8), (64, 1))
    path = tmp_path / "series.dcm"
    path.write_bytes(dicom_files.saved(dicom_files.dataset(np.stack([ramp, ramp[:, ::-1]]), Modality="CT")))
    with pytest.raises(InvalidImage, match=r"2 frames: pass densescan\.frames\(source\) to .*explain_many"):
        client.explain_mri(path)
    first, second = client.explain_many("mri", densescan.frames(path))
    assert isinstance(first, Explanation)
    assert isinstance(second, Explanation)
    assert [each.classification.source for each in (first, second)] == [f"{path}#1", f"{path}#2"]
    assert "modality CT" in second.classification.warnings[0]
    np.testing.assert_array_equal(np.asarray(first.picture)[:, ::-1], np.asarray(second.picture))


@pytest.mark.parametrize(
    ("response", "told"),
    [
        (lambda: answer([0.2, 0.8]), "no output named 'heatmap'"),
        (lambda: explained([0.2, 0.8], name="map"), "no output named 'heatmap'"),
        (lambda: explained([0.2, 0.8], np.zeros((7, 8), np.float32)), r"float32 \[1, 7, 8\]"),
        (lambda: explained([0.2, 0.8], np.zeros((7, 7))), r"float64 \[1, 7, 7\]"),
        (lambda: explained([0.2, 0.8], MAP * np.float32(np.nan)), "values from nan"),
        (lambda: explained([0.2, 0.8], MAP * 40), "a map with values"),
        (lambda: explained([0.2, 0.8], MAP - 2), "a map with values"),
        (lambda: explained([0.2, 3.0]), "no probabilities"),
    ],
)
def test_an_answer_that_is_no_map_is_told_so(
    client: Client, fake: FakeTriton, film: Any, response: Callable[[], Any], told: str
) -> None:
    fake.on_infer = lambda request, context: response()
    with pytest.raises(InferenceFailed, match=f"^xray_gradcam answered .*{told}"):
        client.explain_xray(film)


def test_what_fp16_rounds_is_cut_to_0_and_1(client: Client, fake: FakeTriton, film: Any) -> None:
    fake.on_infer = lambda request, context: explained([0.2, 0.8], spike(0, 0) * np.float32(1.004) - np.float32(0.002))
    heatmap = client.explain_xray(film).heatmap
    assert (heatmap.min(), heatmap.max()) == (0, 1)


# Pictures


@pytest.mark.parametrize("form", ["path", "file", "bytes", "array", "image"])
def test_each_kind_of_picture_is_drawn_on_and_named(
    client: Client, form: str, film: Image.Image, film_path: Path
) -> None:
    source: Any = {
        "path": film_path,
        "file": io.BytesIO(film_path.read_bytes()),
        "bytes": film_path.read_bytes(),
        "array": np.asarray(film),
        "image": film,
    }[form]
    explanation, result = client.explain_xray(source), client.classify_xray(film)
    np.testing.assert_array_equal(np.asarray(explanation.picture), np.asarray(film))
    assert (explanation.classification.source == result.source) == (form == "image")


def test_an_error_names_the_picture_as_the_caller_did(client: Client, tmp_path: Path) -> None:
    (tmp_path / "bad.png").write_bytes(b"no picture")
    with (tmp_path / "bad.png").open("rb") as file, pytest.raises(InvalidImage, match=r"bad\.png: is no picture"):
        client.explain_xray(file)


def test_a_large_jpeg_is_classified_by_the_same_pixels_and_kept_bounded(
    client: Client, fake: FakeTriton, tmp_path: Path
) -> None:
    path = tmp_path / "large.jpg"
    down, right = np.indices((2400, 3000))
    Image.fromarray(((np.sin(down / 9) + np.cos(right / 7) + 2) * 63).astype(np.uint8)).save(path, quality=90)
    with path.open("rb") as file:
        explanation = client.explain_xray(file)
    client.classify_xray(path)
    explaining, classifying = fake.asked("ModelInfer")
    assert explaining.raw_input_contents[0] == classifying.raw_input_contents[0]
    assert explanation.size == (3000, 2400)
    assert explanation.picture.size == (1024, 819)
    assert explanation.heatmap_at().shape == (2400, 3000)


@pytest.mark.parametrize("side", [2 * DETAIL - 1, 2 * DETAIL])
def test_from_the_size_on_at_which_a_jpeg_is_reduced_it_is_explained_reduced_as_well(
    client: Client, fake: FakeTriton, side: int
) -> None:
    down, right = np.indices((side, side))
    file = io.BytesIO()
    Image.fromarray(((np.sin(down / 2) + np.cos(right / 3) + 2) * 63).astype(np.uint8)).save(file, "JPEG", quality=90)
    client.explain_xray(file.getvalue())
    client.classify_xray(file.getvalue())
    explaining, classifying = fake.asked("ModelInfer")
    assert explaining.raw_input_contents[0] == classifying.raw_input_contents[0]


@pytest.mark.parametrize("side", [128, 600, 1000])
def test_a_jpeg_in_colours_is_classified_by_the_same_pixels(client: Client, fake: FakeTriton, side: int) -> None:
    """Of which the classifier's decoder takes the luma alone, at every size."""
    grey = np.asarray(draw_phantom("mri", size=side), np.float32) / 255
    file = io.BytesIO()
    Image.fromarray(colours(grey, "inferno")).save(file, "JPEG", quality=85)
    client.explain_mri(file.getvalue())
    client.classify_mri(file.getvalue())
    explaining, classifying = fake.asked("ModelInfer")
    assert explaining.raw_input_contents[0] == classifying.raw_input_contents[0]


@pytest.mark.parametrize(("kind", "times"), [("JPEG", 2), ("JPEG2000", 2), ("PNG", 1), ("WEBP", 1)])
def test_a_large_file_is_decoded_twice_only_where_its_decoder_reduces_it(
    client: Client, fake: FakeTriton, kind: str, times: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = io.BytesIO()
    Image.fromarray(np.tile(np.arange(1000) % 256, (1000, 1)).astype(np.uint8)).save(file, kind)
    decoded: list[int] = []
    ours = images.decode

    def counted(data: bytes, name: str, **limits: Any) -> Any:
        decoded.append(len(data))
        return ours(data, name, **limits)

    monkeypatch.setattr(images, "decode", counted)
    client.explain_xray(file.getvalue())
    assert len(decoded) == times
    client.classify_xray(file.getvalue())
    explaining, classifying = fake.asked("ModelInfer")
    assert explaining.raw_input_contents[0] == classifying.raw_input_contents[0]


def test_a_later_change_of_the_callers_picture_does_not_change_the_explanation(
    client: Client, film: Image.Image
) -> None:
    mine = film.copy()
    explanation = client.explain_xray(mine)
    mine.paste(0, (0, 0, *mine.size))
    np.testing.assert_array_equal(np.asarray(explanation.picture), np.asarray(film))


def test_limits_of_the_client_hold(fake: FakeTriton, film_path: Path) -> None:
    with Client(fake.url, max_pixels=1000) as client, pytest.raises(InvalidImage, match="1,000 pixels"):
        client.explain_xray(film_path)


# Module functions and the asynchronous client


def test_module_functions_explain_by_the_server_of_the_variable(
    fake: FakeTriton, film: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DENSESCAN_URL", fake.url)
    assert densescan.explain_xray(film, target="NORMAL").target == "NORMAL"
    assert densescan.explain_mri(film).target == "pituitary"


def test_the_asynchronous_client_explains_alike(fake: FakeTriton, film: Any) -> None:
    async def main() -> Explanation:
        async with AsyncClient(fake.url, timeout_s=5) as client:
            return await client.explain_xray(film, target="NORMAL")

    explanation = asyncio.run(main())
    assert explanation.target == "NORMAL"
    np.testing.assert_array_equal(explanation.heatmap, MAP)


# The page


def test_the_code_of_the_page_runs(
    fake: FakeTriton, film: Image.Image, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DENSESCAN_URL", fake.url)
    monkeypatch.chdir(tmp_path)
    film.save("film.png")
    text = (Path(__file__).parents[2] / "docs/explanations.md").read_text(encoding="utf-8")
    for block in re.findall(r"^```python\n(.*?)^```$", text, re.S | re.M):
        exec(compile(block, "explanations.md", "exec", dont_inherit=True), {})
    assert {path.name for path in tmp_path.iterdir()} == {"film.png", "why.png", "sheet.png"}
