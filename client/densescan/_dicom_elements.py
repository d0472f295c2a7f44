"""DICOM elements as plain numbers and texts, without pydicom's conversions: those warn with the values they meet."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

_GROUPS = {
    "FrameVOILUTSequence": ("WindowCenter", "WindowWidth", "VOILUTFunction"),
    "PixelValueTransformationSequence": ("RescaleSlope", "RescaleIntercept"),
}


class Elements:
    """Reads one data set, and behind it those that it inherits from.

    Args:
        datasets: pydicom Datasets; an element of an earlier one hides that of a later one.
    """

    def __init__(self, *datasets: Any) -> None:
        self._datasets = datasets

    def _find(self, keyword: str) -> Any:
        for dataset in self._datasets:
            if keyword in dataset:
                return dataset.get_item(keyword)
        return None

    def text(self, keyword: str) -> str:
        """The first value, upper case and stripped; empty if there is none."""
        element = self._find(keyword)
        value = None if element is None else element.value
        if isinstance(value, (bytes, bytearray)):
            value = value.decode("ascii", "replace")
        elif value is not None and not isinstance(value, str) and isinstance(value, Sequence):
            value = value[0] if len(value) else ""
        return str(value or "").split("\\")[0].strip(" \0").upper()

    def numbers(self, keyword: str, *, signed: bool = False) -> list[float]:
        """All values; empty if there are none, or one of them is no finite number."""
        element = self._find(keyword)
        if element is None or element.value is None:
            return []
        value = element.value
        if isinstance(value, (bytes, bytearray)):
            found = self._raw_numbers(element, signed)
        elif isinstance(value, str):
            found = _parse(value.split("\\"))
        else:
            found = _parse(value if isinstance(value, Sequence) else [value])
        return found if all(np.isfinite(found)) else []

    def number(self, keyword: str, default: float, *, signed: bool = False) -> float:
        """The first value, or `default`."""
        found = self.numbers(keyword, signed=signed)
        return found[0] if found else default

    def _raw_numbers(self, element: Any, signed: bool) -> list[float]:
        from pydicom.datadict import dictionary_VR

        kind = element.VR if element.VR not in (None, "UN") else dictionary_VR(element.tag)
        if kind in ("DS", "IS"):
            return _parse(element.value.decode("ascii", "replace").split("\\"))
        order = _order(element)
        is_signed = kind == "SS" or (kind == "US or SS" and signed)
        return [float(value) for value in np.frombuffer(element.value, f"{order}{'i2' if is_signed else 'u2'}")]

    def words(self, keyword: str) -> npt.NDArray[np.uint16]:
        """The values of a lookup table, 16 bits each."""
        element = self._find(keyword)
        if element is None:
            return np.empty(0, np.uint16)
        if isinstance(element.value, (bytes, bytearray)):
            return np.frombuffer(element.value, f"{_order(element)}u2").astype(np.uint16)
        return np.asarray(element.value).astype(np.uint16)

    def data(self, keyword: str) -> bytes:
        """The bytes of an element as they are stored."""
        element = self._find(keyword)
        return b"" if element is None or not isinstance(element.value, (bytes, bytearray)) else bytes(element.value)

    def item(self, keyword: str, index: int = 0) -> Any:
        """A Dataset out of a sequence, or None."""
        for dataset in self._datasets:
            if keyword in dataset:
                items = dataset[keyword].value or ()
                return items[index] if index < len(items) else None
        return None


def frame_elements(top: Elements, index: int) -> Elements:
    """The elements of one frame: its own, those that all frames share, those of the file."""
    scopes = []
    for group in (
        top.item("PerFrameFunctionalGroupsSequence", index),
        top.item("SharedFunctionalGroupsSequence"),
    ):
        if group is not None:
            scopes += [item for name in _GROUPS if (item := Elements(group).item(name)) is not None]
    return Elements(*scopes, *top._datasets)


def _parse(values: Sequence[Any]) -> list[float]:
    try:
        return [float(value) for value in values]
    except (TypeError, ValueError):
        return []


def _order(element: Any) -> str:
    """Byte order of an element's bytes; one that was set in memory does not know it."""
    return "<" if getattr(element, "is_little_endian", True) else ">"
