"""Writes multi-frame CTs (Enhanced CT Image Storage) for tests."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import EnhancedCTImageStorage, ExplicitVRLittleEndian

from luna_pipeline_tests.phantoms import IDENTITY


def write_enhanced_ct(
    path: Path,
    uid: str,
    stored: NDArray[np.uint16],
    *,
    order: Sequence[int],
    rescales: Sequence[tuple[float, float]] = ((1.0, -1024.0),),
    spacing_mm: Sequence[float] = (0.7, 0.8, 2.5),
    origin_xyz: Sequence[float] = (-50.0, -40.0, -300.0),
    direction: Sequence[float] = IDENTITY,
    drift_mm: float = 0.0,
) -> Path:
    """Write a volume, stored numbers of shape (I, R, C), as one file with its frames in a given order.

    Args:
        path: The file.
        uid: SeriesInstanceUID.
        stored: What stands in the file before slope and intercept.
        order: Slice of the volume for each frame.
        rescales: Slope and intercept, one for all slices (shared group) or one a slice (per-frame groups).
        spacing_mm: Along col, row, index.
        origin_xyz: World position of the first voxel of slice 0.
        direction: ITK's nine numbers.
        drift_mm: Each slice lies so much further along a column: a tilted gantry.
    """
    axes = np.asarray(direction, dtype=np.float64).reshape(3, 3)
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = EnhancedCTImageStorage, f"{uid}.1"
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    dataset.SOPClassUID, dataset.SOPInstanceUID = EnhancedCTImageStorage, f"{uid}.1"
    dataset.SeriesInstanceUID, dataset.StudyInstanceUID = uid, f"{uid}.0"
    dataset.FrameOfReferenceUID = f"{uid}.9"
    dataset.Modality, dataset.PatientID, dataset.ImageType = "CT", "phantom", ["ORIGINAL", "PRIMARY", "VOLUME", "NONE"]
    dataset.NumberOfFrames, dataset.Rows, dataset.Columns = len(order), *stored.shape[1:]
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 16, 16, 15, 0
    shared = Dataset()
    shared.PixelMeasuresSequence = [_group(PixelSpacing=[spacing_mm[1], spacing_mm[0]], SliceThickness=5.0)]
    shared.PlaneOrientationSequence = [
        _group(ImageOrientationPatient=[f"{value:.10f}" for value in (*axes[:, 0], *axes[:, 1])])
    ]
    if len(rescales) == 1:
        shared.PixelValueTransformationSequence = [_rescale(rescales[0])]
    dataset.SharedFunctionalGroupsSequence = [shared]
    frames = []
    for index in order:
        frame = Dataset()
        position = np.asarray(origin_xyz) + index * (spacing_mm[2] * axes[:, 2] + drift_mm * axes[:, 1])
        frame.PlanePositionSequence = [_group(ImagePositionPatient=[f"{value:.8f}" for value in position])]
        if len(rescales) > 1:
            frame.PixelValueTransformationSequence = [_rescale(rescales[index])]
        frames.append(frame)
    dataset.PerFrameFunctionalGroupsSequence = frames
    dataset.PixelData = stored[list(order)].astype("<u2").tobytes()
    dataset.save_as(path, enforce_file_format=True)
    return path


def _rescale(rescale: tuple[float, float]) -> Dataset:
    return _group(RescaleSlope=rescale[0], RescaleIntercept=rescale[1], RescaleType="HU")


def _group(**values: object) -> Dataset:
    group = Dataset()
    for keyword, value in values.items():
        setattr(group, keyword, value)
    return group
