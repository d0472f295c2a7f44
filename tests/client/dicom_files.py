"""DICOM files made here: of a synthetic film, with a patient whose name must never come out again."""

from __future__ import annotations

import base64
import io
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    UID,
    DigitalXRayImageStorageForPresentation,
    ExplicitVRLittleEndian,
    HTJ2KLossless,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    generate_uid,
)

PATIENT = "Secretperson^Jane"
PATIENT_ID = "PID-4711-SECRET"


def dataset(
    stored: npt.NDArray[Any], *, bits: int | None = None, syntax: UID = ExplicitVRLittleEndian, **elements: Any
):
    """A Dataset of [height, width], [frames, height, width] or [height, width, 3] stored values, uncompressed."""
    colour = stored.ndim == 3 and stored.shape[2] == 3
    frames = stored.shape[0] if stored.ndim == 3 and not colour else 1
    height, width = stored.shape[1:3] if frames > 1 else stored.shape[:2]
    file = Dataset()
    file.file_meta = FileMetaDataset()
    file.file_meta.TransferSyntaxUID = syntax
    file.file_meta.MediaStorageSOPClassUID = DigitalXRayImageStorageForPresentation
    file.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    file.SOPClassUID = file.file_meta.MediaStorageSOPClassUID
    file.SOPInstanceUID = file.file_meta.MediaStorageSOPInstanceUID
    file.PatientName, file.PatientID = PATIENT, PATIENT_ID
    file.Modality = "DX"
    file.Rows, file.Columns = height, width
    file.SamplesPerPixel = 3 if colour else 1
    file.PhotometricInterpretation = "RGB" if colour else "MONOCHROME2"
    if colour:
        file.PlanarConfiguration = 0
    if frames > 1:
        file.NumberOfFrames = frames
    file.BitsAllocated = stored.dtype.itemsize * 8
    file.BitsStored = bits or file.BitsAllocated
    file.HighBit = file.BitsStored - 1
    file.PixelRepresentation = int(stored.dtype.kind == "i")
    file.PixelData = stored.tobytes()
    for keyword, value in elements.items():
        setattr(file, keyword, value)
    return file


def saved(file: Any) -> bytes:
    """The Dataset as the bytes of a file."""
    target = io.BytesIO()
    file.save_as(target, enforce_file_format=True)
    return target.getvalue()


def lookup(values: npt.NDArray[np.uint16], first: int, bits: int, kind: str) -> Any:
    """A sequence with one lookup table; `kind` is the VR of its descriptor."""
    item = Dataset()
    item.add_new("LUTDescriptor", kind, [len(values) % 65536, first, bits])
    item.add_new("LUTData", "OW", values.astype("<u2").tobytes())
    return [item]


def as_jpeg(image: Image.Image, **elements: Any) -> Any:
    """A Dataset whose frame is a baseline JPEG."""
    return _compressed(image, JPEGBaseline8Bit, "JPEG", elements, quality=95)


def as_jpeg2000(image: Image.Image, **elements: Any) -> Any:
    """A Dataset whose frame is a lossless JPEG 2000 codestream."""
    return _compressed(image, JPEG2000Lossless, "JPEG2000", elements, irreversible=False, no_jp2=True)


# The lossless codestream of `ht_ramp` in High-Throughput JPEG 2000 (ITU T.814), written by OpenJPH: no decoder of ours
# can also write it.
_HT_RAMP = base64.b85decode(
    b"|4;u>04YEK0000m0000e00000000000000m0000e0000000000009pH0sl|{2mk^A000XAQUDA90ssL31q1{@0smY86Cj9?kdTm&"
    b"kdTm&kdTmwh=~7W02crOPjF>!N>E53R%LP^FfKASE;BCwkN^q*00000@&Ez<lfVEg07(FI^O5zt=mNtu0KfnfKmZc}+wB00bO87L"
    b"00J}szyK9c00iLLYSZ?D58?}U0QbEBBzIK+zyKAH00nq#Y;0_7++sR$f_DJMjT<*^-1zhu-Z6o`xB$Qa7L))1Z2&TvOeT}bWHQ<F"
    b"`g(eLaRPY&;9xKq3<iV2U@-XqOac%d{fIz&_8|f6zW~4hE$9FR)_{)VIF92uj^j9v<2a7vIQ@UhdU|?#dU|?#aDsmTVo?-DQ4~c{"
    b"6h%=KMNt$*Q564ua0DQG_7H*Z*g^-tVF(`mgdltN5P|Hw0sq+"
)


def ht_ramp() -> npt.NDArray[np.uint16]:
    """Stored values of 12 bits [40, 48]."""
    return np.add.outer(np.arange(40) * 50, np.arange(48) * 40).astype(np.uint16)


def as_htj2k(**elements: Any) -> Any:
    """A Dataset whose frame is `ht_ramp` in HTJ2K, lossless."""
    file = dataset(ht_ramp(), bits=12, syntax=HTJ2KLossless, **elements)
    file.PixelData = encapsulate([_HT_RAMP])
    file["PixelData"].is_undefined_length = True
    return file


def _compressed(image: Image.Image, syntax: UID, kind: str, elements: dict[str, Any], **options: Any) -> Any:
    frame = io.BytesIO()
    image.save(frame, kind, **options)
    file = dataset(np.asarray(image), syntax=syntax)
    file.PixelData = encapsulate([frame.getvalue()])
    file["PixelData"].is_undefined_length = True
    for keyword, value in elements.items():
        setattr(file, keyword, value)
    return file
