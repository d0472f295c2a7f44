"""DICOM to 8-bit grey, as a radiologist's viewer shows it. Needs the extra ``densescan[dicom]``.

Only the elements named in `_TAGS` are kept, and errors name none of their values: whom a film
shows never gets into a message, a log or a result. What pydicom says about a damaged file may
quote it, so only the kind of its error is passed on.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any, Final, TypeGuard

import numpy as np
import numpy.typing as npt
from PIL import Image

from ._dicom_codestreams import check_codestreams
from ._dicom_elements import Elements, frame_elements
from ._dicom_grey import grey_table, palette_table
from ._jpeg2000 import halvings, is_large, is_signed, stored_values, too_costly
from .errors import InvalidImage

if TYPE_CHECKING:
    from pydicom import Dataset

_DEFLATED: Final = b"1.2.840.10008.1.2.1.99"

# JPEG 2000 and HTJ2K, lossless and lossy.
_JPEG_2000: Final = frozenset(f"1.2.840.10008.1.2.4.{number}" for number in (90, 91, 201, 202, 203))

# pydicom reads some three times for each element; a thousand frames with their functional groups stay below.
_MAX_READS: Final = 1_500_000

_TAGS: Final = (
    "Modality",
    "ViewPosition",
    "PresentationIntentType",
    "SamplesPerPixel",
    "PhotometricInterpretation",
    "PlanarConfiguration",
    "NumberOfFrames",
    "Rows",
    "Columns",
    "BitsAllocated",
    "BitsStored",
    "PixelRepresentation",
    "PixelPaddingValue",
    "PixelPaddingRangeLimit",
    "RescaleSlope",
    "RescaleIntercept",
    "WindowCenter",
    "WindowWidth",
    "VOILUTFunction",
    "ModalityLUTSequence",
    "VOILUTSequence",
    "RedPaletteColorLookupTableDescriptor",
    "GreenPaletteColorLookupTableDescriptor",
    "BluePaletteColorLookupTableDescriptor",
    "RedPaletteColorLookupTableData",
    "GreenPaletteColorLookupTableData",
    "BluePaletteColorLookupTableData",
    "SharedFunctionalGroupsSequence",
    "PerFrameFunctionalGroupsSequence",
    "FloatPixelData",
    "DoubleFloatPixelData",
    "PixelData",
)

# Named in warnings; anything else in this element could be anybody's name.
_MODALITIES: Final = frozenset(
    {"CR", "CT", "DX", "ES", "GM", "IO", "MG", "MR", "NM", "OP", "OPT", "PT", "PX", "RF", "RG", "SM", "US", "XA", "XC"}
)

_LATERAL: Final = frozenset({"LL", "RL", "LLD", "RLD", "LATERAL", "LAT"})


def is_dicom(data: bytes) -> bool:
    """Whether an encoded file has DICOM's preamble and prefix."""
    return data[128:132] == b"DICM"


def is_dataset(source: object) -> TypeGuard[Dataset]:
    """Whether this is a pydicom Dataset, told without importing pydicom."""
    return any(kind.__module__ == "pydicom.dataset" and kind.__name__ == "Dataset" for kind in type(source).__mro__)


class _BoundedReads(io.BytesIO):
    """Gives up on a file of millions of empty elements, which would take a minute to read."""

    reads = 0

    def read(self, size: int | None = -1, /) -> bytes:
        self.reads += 1
        if self.reads > _MAX_READS:
            raise OverflowError("too many elements")
        return super().read(size)


@dataclass(frozen=True)
class DicomFile:
    """The pictures of one DICOM file or Dataset, still encoded.

    Attributes:
        frames: How many pictures it holds.
        size: Width and height of each, in pixels.
        modality: What took them, such as ``MR``; empty if the file does not say, or says what no standard knows.
        warnings: What to know before trusting a result.
    """

    frames: int
    size: tuple[int, int]
    modality: str
    warnings: tuple[str, ...]
    _name: str
    _dataset: Any
    _transfer_syntax: str
    _pixel_data: bytes

    @classmethod
    def open(cls, source: bytes | Dataset, name: str) -> DicomFile:
        """Read the header.

        Raises:
            InvalidImage: pydicom is not installed, or the file is damaged or holds no picture.
        """
        try:
            from pydicom import dcmread
        except ImportError as error:
            raise InvalidImage(name, "is DICOM, which needs: pip install 'densescan[dicom]'") from error
        try:
            if isinstance(source, bytes):
                if _DEFLATED in source:
                    raise InvalidImage(
                        name, "is deflated DICOM, which could unpack to any size; save it as Explicit VR"
                    )
                source = dcmread(_BoundedReads(source), specific_tags=list(_TAGS))
            return cls._of(source, name)
        except InvalidImage:
            raise
        except Exception as error:  # a parser of damaged files raises whatever it stumbles over
            raise _damaged(name, error) from None

    @classmethod
    def _of(cls, dataset: Any, name: str) -> DicomFile:
        top = Elements(dataset)
        pixel_data = top.data("PixelData")
        if not pixel_data:
            floats = "FloatPixelData" in dataset or "DoubleFloatPixelData" in dataset
            raise InvalidImage(name, f"is DICOM without {'integer ' if floats else ''}pixel data: no film or slice")
        syntax = getattr(getattr(dataset, "file_meta", None), "TransferSyntaxUID", None)
        if syntax is None:
            raise InvalidImage(name, "has no transfer syntax: read the Dataset with pydicom.dcmread, or set file_meta")
        columns, rows = int(top.number("Columns", 0)), int(top.number("Rows", 0))
        frames = int(top.number("NumberOfFrames", 1))
        if frames < 1:
            raise InvalidImage(name, f"is DICOM that announces {frames} frames")
        modality = top.text("Modality")
        return cls(
            frames,
            (columns, rows),
            modality if modality in _MODALITIES else "",
            _warnings(top),
            name,
            dataset,
            str(syntax),
            pixel_data,
        )

    def images(self) -> Iterator[Image.Image]:
        """The pictures in order, one decoded at a time: mode ``L``, or ``RGB``.

        Raises:
            InvalidImage: Their compression has no decoder here, or they are damaged.
        """
        try:
            for index, (pixels, meaning) in enumerate(islice(self._decode(), self.frames)):
                yield self._to_image(pixels, meaning, index)
        except (InvalidImage, GeneratorExit):
            raise
        except Exception as error:
            raise _damaged(self._name, error) from None

    def _decode(self) -> Iterator[tuple[npt.NDArray[Any], str]]:
        """Stored values, and what they mean: as the header says, or as the decoder has changed it."""
        from pydicom.pixels.decoders.base import get_decoder
        from pydicom.uid import UID

        uid = UID(self._transfer_syntax)
        try:
            decoder = get_decoder(uid)
        except NotImplementedError:
            raise InvalidImage(self._name, "is DICOM in a transfer syntax that holds no film or slice") from None
        if not decoder.is_available:
            raise InvalidImage(
                self._name,
                f"is DICOM in {uid.name}, for which no decoder is installed: pip install 'densescan[dicom]'; "
                "JPEG Lossless needs python-gdcm or pylibjpeg-libjpeg (GPL) besides, or a copy in another syntax",
            )
        options = self._options()
        if uid.is_encapsulated:
            check_codestreams(self._pixel_data, uid, options, self._name)
        if uid in _JPEG_2000 and is_large(self.size):
            yield from self._reduced(options)
            return
        # Not as_rgb: what pydicom converts with takes over a gigabyte for the largest picture. Not indices: it would
        # look for each of them from the beginning.
        for pixels, described in decoder.iter_array(self._pixel_data, as_rgb=False, **options):
            yield pixels, str(described["photometric_interpretation"])

    def _reduced(self, options: dict[str, Any]) -> Iterator[tuple[npt.NDArray[Any], str]]:
        """Large JPEG 2000 frames at a smaller scale."""
        from pydicom.encaps import generate_frames

        for frame in generate_frames(self._pixel_data, number_of_frames=self.frames):
            if options["photometric_interpretation"] == "PALETTE COLOR":
                raise too_costly(self.size, self._name, "has a palette, which only holds at its full scale")
            if options["samples_per_pixel"] == 1 and is_signed(frame) != bool(options["pixel_representation"]):
                raise too_costly(self.size, self._name, "has another sign than its header says")
            meaning = str(options["photometric_interpretation"])
            decoded = "RGB" if meaning in ("YBR_ICT", "YBR_RCT") else meaning
            yield stored_values(frame, halvings(frame, self.size, self._name), options["samples_per_pixel"]), decoded

    def _options(self) -> dict[str, Any]:
        top = Elements(self._dataset)
        allocated = int(top.number("BitsAllocated", 0))
        if allocated not in (8, 16):
            raise InvalidImage(self._name, f"is DICOM of {allocated} bits a sample; 8 and 16 are read")
        samples = int(top.number("SamplesPerPixel", 1))
        if samples not in (1, 3) or (samples == 3 and allocated != 8):
            raise InvalidImage(self._name, f"is DICOM of {samples} samples of {allocated} bits a pixel")
        options: dict[str, Any] = {
            "rows": self.size[1],
            "columns": self.size[0],
            "number_of_frames": self.frames,
            "samples_per_pixel": samples,
            "photometric_interpretation": top.text("PhotometricInterpretation"),
            "bits_allocated": allocated,
            "bits_stored": int(top.number("BitsStored", allocated)),
            "pixel_representation": int(top.number("PixelRepresentation", 0)),
            "pixel_keyword": "PixelData",
        }
        if samples == 3:
            options["planar_configuration"] = int(top.number("PlanarConfiguration", 0))
        return options

    def _to_image(self, pixels: npt.NDArray[Any], meaning: str, index: int) -> Image.Image:
        top = Elements(self._dataset)
        if pixels.ndim == 3:
            if meaning in ("YBR_FULL", "YBR_FULL_422"):
                pixels = pixels[:, :, 0]  # Y is the luma that RGB would become
            elif meaning != "RGB":
                raise InvalidImage(self._name, "is DICOM in a colour space that is not read; export it as PNG")
            return Image.fromarray(np.ascontiguousarray(pixels, np.uint8))
        if meaning == "PALETTE COLOR":
            pixels = pixels.astype(pixels.dtype.newbyteorder("="), copy=False)
            return Image.fromarray(palette_table(self._dataset, pixels.dtype)[pixels.view(f"u{pixels.itemsize}")])
        if meaning not in ("MONOCHROME1", "MONOCHROME2"):
            raise InvalidImage(self._name, "is DICOM that says neither MONOCHROME nor a colour space that is read")
        stored = pixels.astype(np.int16 if pixels.dtype.kind == "i" else np.uint16, copy=False).view(np.uint16)
        return Image.fromarray(grey_table(frame_elements(top, index), stored)[stored])


def _warnings(top: Elements) -> tuple[str, ...]:
    found = []
    if top.text("ViewPosition") in _LATERAL:
        found.append("the DICOM header says a lateral view: the network has seen frontal films only")
    if top.text("PresentationIntentType") == "FOR PROCESSING":
        found.append("the DICOM header says FOR PROCESSING: raw detector data, and not a film as it is read")
    return tuple(found)


def _damaged(name: str, error: Exception) -> InvalidImage:
    return InvalidImage(name, f"is a DICOM file that is damaged or cannot be decoded ({type(error).__name__})")
